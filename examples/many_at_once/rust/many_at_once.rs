//! One asynchronous client with a hundred requests in flight, four at a time on the worker's side. No runtime is needed: any
//! executor drives the futures.

use std::error::Error;

use futures_lite::future;
use majordomo::aio::{Client, Worker};
use majordomo::{Message, Request, WorkerOptions};

fn square(request: &Request) -> Result<String, Box<dyn Error>> {
    let number: u64 = std::str::from_utf8(&request.body()[0])?.parse()?;
    Ok((number * number).to_string())
}

/// Answers requests until the worker is closed.
async fn work(worker: &Worker) {
    while let Ok(request) = worker.recv().await {
        let answered = match square(&request) {
            Ok(reply) => request.reply(reply),
            Err(error) => request.fail(400, &error.to_string()),
        };
        if let Err(error) = answered {
            eprintln!("{error}");
        }
    }
}

async fn ask(broker: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(broker)?;
    let requests: Vec<_> = (1..=100).map(|n: u64| client.request("many_at_once", n.to_string())).collect();
    let mut replies: Vec<Message> = Vec::new();
    for request in requests {
        replies.push(request.await?);
    }
    let mut sum = 0;
    for reply in &replies {
        sum += std::str::from_utf8(&reply[0])?.parse::<u64>()?;
    }
    println!("100 requests at once, {} replies, sum of squares {sum}", replies.len());
    client.close();
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let broker = std::env::args().nth(1).ok_or("usage: many_at_once ENDPOINT")?;

    let worker = Worker::with_options(WorkerOptions::new(&broker, "many_at_once").concurrency(4))?;
    let asked = future::block_on(future::or(ask(&broker), async {
        work(&worker).await;
        Err("the worker ended before the client".into())
    }));
    worker.close();
    asked
}
