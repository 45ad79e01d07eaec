//! The broker's own services. A broker need not have them: the first rule finds out.

use super::judge::{Judge, Judged, Miss, fail};
use super::peer::{Client, Worker};
use super::wire::{Frames, Version, show};

fn status(client: &Client<'_>, service: &str) -> Result<Frames, Miss> {
    match client.ask("mmi.service", &[service.as_bytes().to_vec()])? {
        Some(body) => Ok(body),
        None => Err(Miss::Skip("the broker does not answer mmi.service: 8/MMI is an option".into())),
    }
}

fn expect(said: &Frames, wanted: &[u8], about: &str) -> Result<(), Miss> {
    if said[..] == [wanted.to_vec()] {
        return Ok(());
    }
    fail(format!("{} instead of {} for {about}", show(said), show(&[wanted.to_vec()])))
}

/// `200` with a worker, idle or busy, `404` before and after; under the name that was asked.
pub(super) fn service(judge: &Judge, version: &'static Version) -> Judged {
    let client = Client::new(judge, version)?;
    let service = judge.service("known");
    expect(&status(&client, &service)?, b"404", "a service that nobody has heard of")?;
    let worker = Worker::registered(judge, version, &service)?;
    expect(&status(&client, &service)?, b"200", "a service with an idle worker")?;
    let other = Client::new(judge, version)?;
    other.send(&service, &[b"busy".to_vec()])?;
    let request = worker.request()?;
    expect(&status(&client, &service)?, b"200", "a service with a busy worker")?;
    worker.reply(&request.address, &request.body)?;
    client.send("mmi.service", &[service.into_bytes()])?;
    match client.recv(judge.patience)? {
        Some(reply) if reply.service == b"mmi.service" => Ok("200 with a worker, 404 without".into()),
        other => fail(format!("the reply of mmi.service is {other:?}")),
    }
}

/// `404` for a service that was only ever asked for.
pub(super) fn unserved(judge: &Judge, version: &'static Version) -> Judged {
    let client = Client::new(judge, version)?;
    status(&client, "conform")?;
    let service = judge.service("asked-for");
    client.send(&service, &[b"anybody?".to_vec()])?;
    expect(&status(&client, &service)?, b"404", "a service that was only asked for")?;
    Ok("404 for a service that was only asked for".into())
}

/// `404` once the only worker, which was idle, has died.
pub(super) fn dead_idle(judge: &Judge, version: &'static Version) -> Judged {
    let client = Client::new(judge, version)?;
    status(&client, "conform")?;
    let service = judge.service("dead-idle");
    drop(Worker::registered(judge, version, &service)?);
    judge.wait_for_status(&client, &service, b"404")?;
    Ok("404 after the only worker has died".into())
}

/// `404` once the only worker, which was busy, has died.
pub(super) fn dead_busy(judge: &Judge, version: &'static Version) -> Judged {
    let client = Client::new(judge, version)?;
    status(&client, "conform")?;
    let service = judge.service("dead-busy");
    let worker = Worker::registered(judge, version, &service)?;
    let asker = Client::new(judge, version)?;
    asker.send(&service, &[b"work".to_vec()])?;
    worker.request()?;
    drop(worker);
    judge.wait_for_status(&client, &service, b"404")?;
    Ok("404 after the only worker has died with a request in hand".into())
}

/// `501` for every other service of the namespace.
pub(super) fn unknown(judge: &Judge, version: &'static Version) -> Judged {
    let client = Client::new(judge, version)?;
    status(&client, "conform")?;
    for name in ["mmi.conform-has-invented-this", "mmi.", "mmi.services.and.more"] {
        match client.ask(name, &[b"x".to_vec()])? {
            Some(body) => expect(&body, b"501", name)?,
            None => return fail(format!("no answer for {name}")),
        }
    }
    Ok("501 for services that the broker does not have".into())
}

/// A worker that registers such a name is disconnected.
pub(super) fn reserved(judge: &Judge, version: &'static Version) -> Judged {
    let client = Client::new(judge, version)?;
    status(&client, "conform")?;
    for name in ["mmi.service", "mmi.conform"] {
        let worker = Worker::new(judge, version, name)?;
        worker.ready()?;
        worker.expect_disconnect(&format!("a worker for {name}"))?;
    }
    expect(&status(&client, &judge.service("nobody"))?, b"404", "a service after the attempt")?;
    Ok("workers for reserved names are sent away".into())
}
