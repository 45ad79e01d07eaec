//! Signs of life and their absence.

use std::time::Instant;

use super::judge::{Judge, Judged, fail};
use super::peer::{Client, Worker};
use super::wire::{Command, ToWorker, Version, show};

/// An idle worker hears the broker beat.
pub(super) fn broker_beats(judge: &Judge, version: &'static Version) -> Judged {
    const BEATS: u32 = 2;
    let worker = Worker::registered(judge, version, &judge.service("beats"))?;
    let deadline = Instant::now() + judge.heartbeat * (BEATS + 2) + judge.quiet;
    let mut beats = 0;
    while beats < BEATS {
        let own = (Instant::now() + judge.heartbeat / 3).min(deadline);
        match worker.next(own)? {
            Some(ToWorker::Heartbeat) => beats += 1,
            Some(ToWorker::Odd(frames)) => return fail(format!("an idle worker got {}", show(&frames))),
            Some(_) => return fail("an idle worker that beats got something else than HEARTBEAT"),
            None if Instant::now() >= deadline => {
                return fail(format!("{beats} heartbeats in {:?}", judge.heartbeat * (BEATS + 2)));
            }
            None => worker.say(Command::Heartbeat, &[])?,
        }
    }
    Ok(format!("{BEATS} heartbeats at the interval of --heartbeat-ms"))
}

/// A worker that is silent for too long gets nothing more, though a live one stands before it.
pub(super) fn silence(judge: &Judge, version: &'static Version) -> Judged {
    let live = Worker::registered(judge, version, &judge.service("live"))?;
    let service = judge.service("silent");
    let silent = Worker::registered(judge, version, &service)?;
    let ends = Instant::now() + judge.lease();
    while Instant::now() < ends {
        live.say(Command::Heartbeat, &[])?;
        live.next((Instant::now() + judge.heartbeat / 3).min(ends))?;
    }
    let client = Client::new(judge, version)?;
    client.send(&service, &[b"work".to_vec()])?;
    client.settle()?;
    silent.expect_no_request(judge.quiet, "a worker that was silent for too long")?;
    let fresh = Worker::new(judge, version, &service)?;
    fresh.ready()?;
    fresh.echo()?;
    client.expect(&service, &[b"work".to_vec()])?;
    Ok(format!("a worker that was silent for {:?} got nothing more", judge.lease()))
}

/// Replies are a sign of life, without a single HEARTBEAT.
pub(super) fn any_command(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("replies-only");
    let worker = Worker::registered(judge, version, &service)?;
    let client = Client::new(judge, version)?;
    let ends = Instant::now() + judge.lease();
    let mut replies = 0;
    while Instant::now() < ends {
        client.send(&service, &[b"busy".to_vec()])?;
        let deadline = Instant::now() + judge.patience;
        let request = loop {
            match worker.next(deadline)? {
                Some(ToWorker::Request { address, body }) => break (address, body),
                Some(ToWorker::Heartbeat | ToWorker::Odd(_)) if Instant::now() < deadline => {}
                Some(ToWorker::Disconnect) => {
                    return fail(format!(
                        "a worker that answers but never beats got DISCONNECT after {replies} replies"
                    ));
                }
                _ => {
                    return fail(format!(
                        "a worker that answers but never beats got no more work after {replies} replies"
                    ));
                }
            }
        };
        worker.reply(&request.0, &request.1)?;
        client.expect(&service, &[b"busy".to_vec()])?;
        replies += 1;
        // Idle for less than an interval, as a worker under load is.
        let pause = Instant::now() + judge.heartbeat / 2;
        while let Some(heard) = worker.next(pause)? {
            if heard == ToWorker::Disconnect {
                return fail("a worker that answers but never beats got DISCONNECT");
            }
        }
    }
    Ok(format!("{replies} replies without a heartbeat kept their worker"))
}
