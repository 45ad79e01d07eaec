//! A worker that answers in parts, and a client that takes them as they come (MDP/0.2).

use std::error::Error;
use std::thread;

use majordomo::{Client, ClientOptions, Protocol, Request, Worker, WorkerOptions};

/// Answers a number with that many parts.
fn count(request: &Request) -> Result<(), Box<dyn Error>> {
    let end: u32 = std::str::from_utf8(&request.body()[0])?.parse()?;
    for number in 1..=end {
        request.partial(number.to_string())?;
    }
    Ok(request.reply("done")?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let broker = std::env::args().nth(1).ok_or("usage: streaming ENDPOINT")?;

    let worker = Worker::with_options(WorkerOptions::new(&broker, "streaming").protocol(Protocol::V02))?;
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let serving = scope.spawn(|| -> majordomo::Result<()> {
            for request in &worker {
                if let Err(error) = count(&request) {
                    request.fail(400, &error.to_string())?;
                }
            }
            Ok(())
        });

        let client = Client::with_options(ClientOptions::new(&broker).protocol(Protocol::V02))?;
        let mut parts = client.stream("streaming", "5")?;
        while let Some(part) = parts.next() {
            let part = part?;
            let kind = if parts.is_final() { "final" } else { "part" };
            println!("{kind} {}", String::from_utf8_lossy(&part[0]));
        }

        worker.close();
        serving.join().map_err(|_| "the worker's thread panicked")??;
        Ok(())
    })
}
