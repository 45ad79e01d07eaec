//! What becomes of requests and replies whose other side is lost, or slow.

use super::judge::{Judge, Judged, Miss, fail};
use super::peer::{Client, Worker};
use super::wire::{Version, show};

/// A request for a service that nobody serves expires.
pub(super) fn request_expires(judge: &Judge, version: &'static Version) -> Judged {
    let Some(ttl) = judge.request_ttl else {
        return Err(Miss::Skip("--request-ttl-ms does not say how long a request may wait".into()));
    };
    let service = judge.service("expires");
    let client = Client::new(judge, version)?;
    client.send(&service, &[b"stale".to_vec()])?;
    client.settle()?;
    client.recv(ttl + judge.heartbeat * 2 + judge.quiet)?;
    let worker = Worker::new(judge, version, &service)?;
    worker.ready()?;
    let fresh = Client::new(judge, version)?;
    fresh.send(&service, &[b"fresh".to_vec()])?;
    let body = worker.echo()?;
    if body == [b"stale".to_vec()] {
        return fail(format!("a request was handed out long after {ttl:?}"));
    }
    fresh.expect(&service, &[b"fresh".to_vec()])?;
    Ok(format!("a request was not handed out after {ttl:?}"))
}

/// A client that gave up and closed its connection does not have its waiting request run.
pub(super) fn client_gone(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("again");
    let impatient = Client::new(judge, version)?;
    impatient.send(&service, &[b"first try".to_vec()])?;
    impatient.settle()?;
    drop(impatient);
    let again = Client::new(judge, version)?;
    again.send(&service, &[b"second try".to_vec()])?;
    again.recv(judge.quiet)?;
    let worker = Worker::new(judge, version, &service)?;
    worker.ready()?;
    let body = worker.echo()?;
    if body != [b"second try".to_vec()] {
        return fail(format!("the worker was given {} of a client that is gone", show(&body)));
    }
    again.expect(&service, &[b"second try".to_vec()])?;
    Ok("only the second try of a client that closed and came again was run".into())
}

/// A reply whose client is gone frees its worker all the same.
pub(super) fn reply_to_nobody(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("gone");
    let worker = Worker::registered(judge, version, &service)?;
    let client = Client::new(judge, version)?;
    client.send(&service, &[b"bye".to_vec()])?;
    let request = worker.request()?;
    drop(client);
    let other = Client::new(judge, version)?;
    // By then the broker has been told that the first one is gone, if anybody tells it.
    other.settle()?;
    worker.reply(&request.address, &[b"too late".to_vec()])?;
    other.send(&service, &[b"next".to_vec()])?;
    worker.echo()?;
    other.expect(&service, &[b"next".to_vec()])?;
    Ok("a reply to a client that is gone freed its worker".into())
}

/// A burst of replies to a client that reads late arrives whole and in order.
pub(super) fn slow_reader(judge: &Judge, version: &'static Version) -> Judged {
    const COUNT: u32 = 4000;
    const SIZE: usize = 4096;
    let service = judge.service("burst");
    let worker = Worker::registered(judge, version, &service)?;
    let client = Client::with_small_buffers(judge, version)?;
    let body = |number: u32| [number.to_string().into_bytes(), vec![b'.'; SIZE]];
    for number in 0..COUNT {
        client.send(&service, &body(number))?;
        worker.echo()?;
    }
    for number in 0..COUNT {
        client.expect(&service, &body(number)).map_err(|miss| match miss {
            Miss::Fail(what) => Miss::Fail(format!("reply {number} of {COUNT}: {what}")),
            skip => skip,
        })?;
    }
    Ok(format!("{COUNT} replies of {SIZE} bytes waited for a client that read them late"))
}

/// The request of a worker that dies with it goes to another.
pub(super) fn worker_dies_busy(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("dies");
    let first = Worker::registered(judge, version, &service)?;
    let client = Client::new(judge, version)?;
    client.send(&service, &[b"do it".to_vec()])?;
    first.request()?;
    drop(first);
    let second = Worker::new(judge, version, &service)?;
    second.ready()?;
    let asked = std::time::Instant::now();
    let request = second.request_within(judge.discovery())?;
    second.reply(&request.address, &request.body)?;
    client.expect(&service, &[b"do it".to_vec()])?;
    Ok(format!("another worker had the request after {:?}", asked.elapsed()))
}
