//! Requests and replies between well-behaved peers.

use std::time::Instant;

use super::judge::{Judge, Judged, fail};
use super::peer::{Client, Worker};
use super::wire::{Command, Frames, Reply, Version, show};

fn bodies() -> Vec<Frames> {
    vec![
        vec![b"one".to_vec()],
        vec![b"".to_vec(), b"in the middle".to_vec(), b"".to_vec()],
        vec![(0..=255).collect()],
        vec![vec![b'x'; 100_000]],
    ]
}

/// The client gets the reply's frames as the worker sent them, behind the header, with the service's name.
pub(super) fn reply_format(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("replies");
    let worker = Worker::registered(judge, version, &service)?;
    let client = Client::new(judge, version)?;
    for body in bodies() {
        client.send(&service, &[b"go".to_vec()])?;
        let request = worker.request()?;
        worker.reply(&request.address, &body)?;
        client.expect(&service, &body)?;
    }
    Ok(format!("{} bodies came back as they were sent", bodies().len()))
}

/// The worker gets one address, an empty frame and the body as the client sent it.
pub(super) fn request_format(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("requests");
    let worker = Worker::registered(judge, version, &service)?;
    let client = Client::new(judge, version)?;
    for body in bodies() {
        client.send(&service, &body)?;
        let request = worker.request()?;
        if request.body != body {
            return fail(format!("the worker got {} for {}", show(&request.body), show(&body)));
        }
        worker.reply(&request.address, &[b"ok".to_vec()])?;
        client.expect(&service, &[b"ok".to_vec()])?;
    }
    Ok(format!("{} bodies came with one address and an empty frame", bodies().len()))
}

/// Two clients ask at the same time; each gets its own reply, whichever comes first.
pub(super) fn own_reply(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("own");
    let workers = [Worker::registered(judge, version, &service)?, Worker::new(judge, version, &service)?];
    workers[1].ready()?;
    let clients = [Client::new(judge, version)?, Client::new(judge, version)?];
    for (number, client) in clients.iter().enumerate() {
        client.send(&service, &[number.to_string().into_bytes()])?;
    }
    let requests = [workers[0].request()?, workers[1].request()?];
    for (worker, request) in workers.iter().zip(&requests).rev() {
        worker.reply(&request.address, &request.body)?;
    }
    for (number, client) in clients.iter().enumerate() {
        client.expect(&service, &[number.to_string().into_bytes()])?;
        client.expect_nothing()?;
    }
    Ok("each client got its own reply, once".into())
}

/// A request for a service without workers waits for one.
pub(super) fn request_waits(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("waits");
    let client = Client::new(judge, version)?;
    client.send(&service, &[b"early".to_vec()])?;
    client.settle()?;
    let worker = Worker::new(judge, version, &service)?;
    worker.ready()?;
    worker.echo()?;
    client.expect(&service, &[b"early".to_vec()])?;
    Ok("a request that came before its worker was served".into())
}

/// One client's many waiting requests do not put off another client's one until the end.
pub(super) fn fair_clients(judge: &Judge, version: &'static Version) -> Judged {
    const MANY: usize = 20;
    let service = judge.service("fair");
    let (greedy, modest) = (Client::new(judge, version)?, Client::new(judge, version)?);
    for _ in 0..MANY {
        greedy.send(&service, &[b"greedy".to_vec()])?;
    }
    greedy.settle()?;
    modest.send(&service, &[b"modest".to_vec()])?;
    modest.settle()?;
    let worker = Worker::new(judge, version, &service)?;
    worker.ready()?;
    let mut before = 0;
    while worker.echo()? == [b"greedy".to_vec()] {
        before += 1;
        if before == MANY {
            return fail(format!("a client with one request waited for all {MANY} of another"));
        }
    }
    Ok(format!("a client with one request waited for {before} of another's {MANY}"))
}

/// There is no response to a READY.
pub(super) fn ready_unanswered(judge: &Judge, version: &'static Version) -> Judged {
    let worker = Worker::new(judge, version, &judge.service("ready"))?;
    worker.ready()?;
    let deadline = Instant::now() + judge.quiet;
    match worker.next_but_beats(deadline)? {
        None => Ok("no answer to READY".into()),
        Some(heard) => fail(format!("READY was answered by {heard:?}")),
    }
}

/// A worker that holds a request gets no second one.
pub(super) fn one_at_a_time(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("single");
    let worker = Worker::registered(judge, version, &service)?;
    let clients = [Client::new(judge, version)?, Client::new(judge, version)?];
    clients[0].send(&service, &[b"first".to_vec()])?;
    let first = worker.request()?;
    clients[1].send(&service, &[b"second".to_vec()])?;
    clients[1].settle()?;
    worker.expect_no_request(judge.quiet, "a busy worker")?;
    worker.reply(&first.address, &first.body)?;
    clients[0].expect(&service, &[b"first".to_vec()])?;
    Ok("a busy worker was left alone".into())
}

/// After a reply the next waiting request follows at once, and those of one client in their order.
pub(super) fn next_at_once(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("next");
    let client = Client::new(judge, version)?;
    let bodies: Vec<Frames> = (0..3).map(|number: u8| vec![vec![b'0' + number]]).collect();
    for body in &bodies {
        client.send(&service, body)?;
    }
    client.settle()?;
    let worker = Worker::new(judge, version, &service)?;
    worker.ready()?;
    for body in &bodies {
        // Not a word meanwhile, and less than a heartbeat: a broker that looks at its queue only then is late.
        let wait = (judge.heartbeat * 3 / 4).max(judge.quiet).min(judge.patience);
        let Some(request) = worker.next_request(Instant::now() + wait)? else {
            return fail(format!("no REQUEST came within {wait:?} of the last reply"));
        };
        if request.body != *body {
            return fail(format!("{} came where {} was due", show(&request.body), show(body)));
        }
        worker.reply(&request.address, &request.body)?;
        client.expect(&service, body)?;
    }
    Ok("each reply brought the next waiting request".into())
}

/// Parts reach the client as parts, in their order, before the last one.
pub(super) fn partials(judge: &Judge, version: &'static Version) -> Judged {
    const PARTS: u8 = 10;
    let service = judge.service("stream");
    let worker = Worker::registered(judge, version, &service)?;
    let client = Client::new(judge, version)?;
    client.send(&service, &[b"go".to_vec()])?;
    let request = worker.request()?;
    for number in 0..PARTS {
        let body = vec![vec![b'a' + number], Vec::new()];
        worker.answer(Command::Partial, &request.address, &body)?;
        let wanted = Reply { partial: true, service: service.clone().into_bytes(), body };
        match client.recv(judge.patience)? {
            Some(reply) if reply == wanted => {}
            Some(reply) => return fail(format!("part {number} came as {reply:?}")),
            None => return fail(format!("part {number} did not come while the stream went on")),
        }
    }
    worker.reply(&request.address, &[b"end".to_vec()])?;
    client.expect(&service, &[b"end".to_vec()])?;
    client.expect_nothing()?;
    Ok(format!("{PARTS} parts and the last one, in order"))
}

/// A part of a reply does not free its worker for other work.
pub(super) fn partial_keeps_busy(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("streaming");
    let worker = Worker::registered(judge, version, &service)?;
    let clients = [Client::new(judge, version)?, Client::new(judge, version)?];
    clients[0].send(&service, &[b"stream".to_vec()])?;
    let request = worker.request()?;
    worker.answer(Command::Partial, &request.address, &[b"part".to_vec()])?;
    clients[1].send(&service, &[b"next".to_vec()])?;
    clients[1].settle()?;
    worker.expect_no_request(judge.quiet, "a worker in the middle of its stream")?;
    worker.reply(&request.address, &[b"end".to_vec()])?;
    worker.echo()?;
    clients[1].expect(&service, &[b"next".to_vec()])?;
    Ok("a worker in the middle of its stream was left alone".into())
}
