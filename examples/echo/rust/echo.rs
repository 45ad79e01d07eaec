//! The smallest hub: a worker, a client, one request, one reply.

use std::error::Error;
use std::thread;

use majordomo::{Client, Worker};

fn main() -> Result<(), Box<dyn Error>> {
    let broker = std::env::args().nth(1).ok_or("usage: echo ENDPOINT")?;

    let worker = Worker::connect(&broker, "echo")?;
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let serving = scope.spawn(|| -> majordomo::Result<()> {
            for request in &worker {
                request.reply(request.body().clone())?;
            }
            Ok(())
        });

        let client = Client::connect(&broker)?;
        let reply = client.request("echo", ["hello", "world"])?;
        let frames: Vec<_> = reply.iter().map(String::from_utf8_lossy).collect();
        println!("{} frames: {}", reply.len(), frames.join(" "));

        worker.close();
        serving.join().map_err(|_| "the worker's thread panicked")??;
        Ok(())
    })
}
