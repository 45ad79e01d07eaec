//! A caller gives up, by its own will or because its deadline passes, and the handler hears of it (MDPX).

use std::error::Error;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use majordomo::aio::Client;
use majordomo::{Request, RequestOptions, Worker};

const MINUTE: Duration = Duration::from_secs(60);

/// What a handler tells the main thread of this program.
enum News {
    Started { remaining: Option<Duration> },
    Stopped,
}

/// Works on the request until nobody waits for the answer any more.
fn work(request: &Request, news: &Sender<News>) -> Result<(), Box<dyn Error>> {
    news.send(News::Started { remaining: request.remaining() })?;
    // A handler that computes asks `is_cancelled` from time to time; one that awaits has `cancelled().await`.
    if request.cancel_token().wait_timeout(MINUTE) {
        news.send(News::Stopped)?;
    }
    // It is still to be answered. The answer is dropped.
    Ok(request.fail(499, "nobody waits for it")?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let broker = std::env::args().nth(1).ok_or("usage: cancel ENDPOINT")?;

    let worker = Worker::connect(&broker, "cancel")?;
    let (sender, news) = channel();
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        scope.spawn(|| {
            for request in &worker {
                if let Err(error) = work(&request, &sender) {
                    eprintln!("{error}");
                }
            }
        });

        let client = Client::connect(&broker)?;
        let within = |deadline| RequestOptions { deadline: Some(deadline), ..RequestOptions::default() };
        let asked = client.request_with("cancel", "work".into(), &within(MINUTE));
        if matches!(news.recv()?, News::Started { remaining: Some(left) } if !left.is_zero() && left <= MINUTE) {
            println!("the handler works; its caller waits for another minute at most");
        }
        // Dropping the future is giving the request up.
        drop(asked);
        println!("the caller gives up");
        if matches!(news.recv()?, News::Stopped) {
            println!("the handler hears of it and stops");
        }

        if let Err(error) = block_on(client.request_with("cancel", "work".into(), &within(Duration::from_secs(1)))) {
            println!("the deadline passes: {}", error.kind().name());
        }
        if matches!((news.recv()?, news.recv()?), (News::Started { .. }, News::Stopped)) {
            println!("the handler hears of it and stops");
        }
        worker.drain();
        Ok(())
    })
}
