//! Peers that break the rules: the broker sends them away, and nobody else notices.

use super::judge::{Judge, Judged, Miss, fail};
use super::peer::{Client, Worker};
use super::wire::{Command, Frames, Version, show};

/// A worker may say DISCONNECT before READY.
pub(super) fn early_disconnect(judge: &Judge, version: &'static Version) -> Judged {
    let worker = Worker::new(judge, version, &judge.service("early"))?;
    worker.say(Command::Disconnect, &[])?;
    worker.expect_silence(judge.quiet, "a worker that said DISCONNECT")?;
    judge.serves(version)?;
    Ok("DISCONNECT before READY was borne in silence".into())
}

/// After its DISCONNECT a worker gets nothing more.
pub(super) fn disconnect_obeyed(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("leaves");
    let worker = Worker::registered(judge, version, &service)?;
    worker.say(Command::Disconnect, &[])?;
    // What was on its way may still arrive.
    while worker.next(std::time::Instant::now() + judge.quiet / 4)?.is_some() {}
    let client = Client::new(judge, version)?;
    client.send(&service, &[b"work".to_vec()])?;
    worker.expect_silence(judge.heartbeat * 2 + judge.quiet, "a worker that said DISCONNECT")?;
    Ok("a worker that said DISCONNECT got nothing more".into())
}

/// A HEARTBEAT of a worker that is not registered is answered by DISCONNECT.
pub(super) fn unexpected_heartbeat(judge: &Judge, version: &'static Version) -> Judged {
    let worker = Worker::new(judge, version, "nobody")?;
    worker.say(Command::Heartbeat, &[])?;
    worker.expect_disconnect("a HEARTBEAT before READY")?;
    Ok("HEARTBEAT before READY brought DISCONNECT".into())
}

/// A reply of a worker that is not registered is answered by DISCONNECT.
pub(super) fn unexpected_reply(judge: &Judge, version: &'static Version) -> Judged {
    let worker = Worker::new(judge, version, "nobody")?;
    worker.reply(b"whoever", &[b"unasked".to_vec()])?;
    worker.expect_disconnect("a reply before READY")?;
    Ok("a reply before READY brought DISCONNECT".into())
}

/// A worker that was sent away gets nothing more, not even a heartbeat.
pub(super) fn disconnect_is_last(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("sent-away");
    let worker = Worker::registered(judge, version, &service)?;
    worker.ready()?;
    match worker.expect_disconnect("a second READY") {
        Err(Miss::Fail(_)) => return Err(Miss::Skip("the broker sends nobody away for a second READY".into())),
        other => other?,
    }
    let client = Client::new(judge, version)?;
    client.send(&service, &[b"work".to_vec()])?;
    worker.expect_silence(judge.heartbeat * 2 + judge.quiet, "a worker after its DISCONNECT")?;
    Ok("nothing followed the DISCONNECT".into())
}

/// A reply that nobody asked for is not delivered to the client that it names.
pub(super) fn forged_reply(judge: &Judge, version: &'static Version) -> Judged {
    let name = judge.service("victim").into_bytes();
    let victim = Client::with_identity(judge, version, &name)?;
    victim.settle()?;
    let worker = Worker::registered(judge, version, &judge.service("forger"))?;
    worker.reply(&name, &[b"forged".to_vec()])?;
    victim.expect_nothing()?;
    judge.serves(version)?;
    Ok("a forged reply reached nobody".into())
}

/// A worker that answers unasked does not count as idle twice.
pub(super) fn unasked_reply(judge: &Judge, version: &'static Version) -> Judged {
    let service = judge.service("twice");
    let worker = Worker::registered(judge, version, &service)?;
    worker.reply(b"whoever", &[b"unasked".to_vec()])?;
    let clients = [Client::new(judge, version)?, Client::new(judge, version)?];
    for client in &clients {
        client.send(&service, &[b"work".to_vec()])?;
        client.settle()?;
    }
    match worker.request() {
        // Sent away for it: that is right too.
        Err(Miss::Fail(what)) if what.contains("DISCONNECT") => return Ok("it was sent away".into()),
        other => other?,
    };
    worker.expect_no_request(judge.quiet, "a busy worker that had once answered unasked")?;
    Ok("a worker that answered unasked got one request at a time".into())
}

/// A reply under another client's address is delivered to nobody, and the right client gets its own.
pub(super) fn wrong_address(judge: &Judge, version: &'static Version) -> Judged {
    let name = judge.service("bystander").into_bytes();
    let bystander = Client::with_identity(judge, version, &name)?;
    bystander.settle()?;
    let service = judge.service("mistaken");
    let worker = Worker::registered(judge, version, &service)?;
    let client = Client::new(judge, version)?;
    client.send(&service, &[b"work".to_vec()])?;
    let request = worker.request()?;
    worker.reply(&name, &[b"wrong".to_vec()])?;
    bystander.expect_nothing()?;
    worker.reply(&request.address, &[b"right".to_vec()])?;
    let expected = |body: &Frames| body[..] == [b"right".to_vec()];
    let answered = match client.recv(judge.patience)? {
        Some(reply) if expected(&reply.body) => true,
        Some(reply) => return fail(format!("the client got {}", show(&reply.body))),
        None => false,
    };
    if !answered {
        // The broker may have dropped a worker that answers so; then the request is another's.
        let second = Worker::new(judge, version, &service)?;
        second.ready()?;
        let request = second.request()?;
        second.reply(&request.address, &[b"right".to_vec()])?;
        client.expect(&service, &[b"right".to_vec()])?;
    }
    Ok("a reply under another's address reached nobody".into())
}

/// A second READY is answered by DISCONNECT.
pub(super) fn second_ready(judge: &Judge, version: &'static Version) -> Judged {
    let worker = Worker::registered(judge, version, &judge.service("ready-twice"))?;
    worker.ready()?;
    worker.expect_disconnect("a second READY")?;
    judge.serves(version)?;
    Ok("a second READY brought DISCONNECT".into())
}

/// A second READY of a busy worker gives its request to another.
pub(super) fn second_ready_busy(judge: &Judge, version: &'static Version) -> Judged {
    let (worker, client, service) = busy(judge, version, "ready-busy")?;
    worker.ready()?;
    taken_over(judge, version, &client, &service)?;
    Ok("the request of a worker that said READY twice went to another".into())
}

/// A worker that says DISCONNECT with a request in hand gives it to another.
pub(super) fn disconnect_busy(judge: &Judge, version: &'static Version) -> Judged {
    let (worker, client, service) = busy(judge, version, "leaves-busy")?;
    worker.say(Command::Disconnect, &[])?;
    taken_over(judge, version, &client, &service)?;
    Ok("the request of a worker that said DISCONNECT went to another".into())
}

/// A worker with a request in hand, and its client.
fn busy<'a>(judge: &'a Judge, version: &'static Version, what: &str) -> Result<(Worker<'a>, Client<'a>, String), Miss> {
    let service = judge.service(what);
    let worker = Worker::registered(judge, version, &service)?;
    let client = Client::new(judge, version)?;
    client.send(&service, &[b"work".to_vec()])?;
    worker.request()?;
    Ok((worker, client, service))
}

fn taken_over(judge: &Judge, version: &'static Version, client: &Client<'_>, service: &str) -> Result<(), Miss> {
    let second = Worker::new(judge, version, service)?;
    second.ready()?;
    let request = second.request_within(judge.discovery())?;
    second.reply(&request.address, &request.body)?;
    client.expect(service, &[b"work".to_vec()])
}

/// Odd questions to the broker's own services bring nobody down.
pub(super) fn odd_question(judge: &Judge, version: &'static Version) -> Judged {
    let bodies: [Frames; 4] = [vec![], vec![vec![]], vec![b"\xff\x00".to_vec()], vec![b"a".to_vec(); 1000]];
    survives(judge, version, bodies.iter().map(|body| version.client_request(b"mmi.service", body)))
}

/// Messages that are of no protocol bring nobody down.
pub(super) fn odd_header(judge: &Judge, version: &'static Version) -> Judged {
    let odd: [&[&[u8]]; 8] = [
        &[b""],
        &[b"", b""],
        &[b"MDPC"],
        &[b"", b"MDPX99", b"\x01", b"echo"],
        &[b"\xff\xfe", b"\x00"],
        &[b"", b"", b"MDPC01", b"echo", b"x"],
        &[b"GET / HTTP/1.1\r\n\r\n"],
        &[b"", b"MDPW01MDPW01"],
    ];
    survives(judge, version, odd.iter().map(|frames| frames.iter().map(|frame| frame.to_vec()).collect()))
}

/// Messages of a worker that lack what they need bring nobody down.
pub(super) fn odd_worker(judge: &Judge, version: &'static Version) -> Judged {
    let of = |rest: &[&[u8]]| {
        let rest = rest.iter().map(|frame| frame.to_vec());
        version.worker_header().into_iter().chain(rest).collect::<Frames>()
    };
    let (ready, reply) = (version.byte(Command::Ready), version.byte(Command::Reply));
    let odd = [
        of(&[]),
        of(&[b""]),
        of(&[&[ready]]),
        of(&[&[ready], b""]),
        of(&[&[ready], b"\xff\xfe\x00"]),
        of(&[&[ready], b"conform-odd", b"more"]),
        of(&[&[reply]]),
        of(&[&[reply], b""]),
        of(&[&[reply], b"whoever", b"no delimiter"]),
        of(&[&[version.byte(Command::Heartbeat)], b"more"]),
        of(&[&[0]]),
        of(&[&[0xff], b"x"]),
        of(&[b"\x01\x01", b"conform-odd"]),
    ];
    let seen = survives(judge, version, odd.iter().cloned())?;
    // The same from a worker that is registered.
    for frames in &odd {
        let worker = Worker::registered(judge, version, &judge.service("odd"))?;
        worker.send_frames(frames)?;
        alive(judge, version, frames)?;
    }
    Ok(format!("{seen}, from strangers and from registered workers"))
}

/// Messages of a client that lack what they need bring nobody down.
pub(super) fn odd_client(judge: &Judge, version: &'static Version) -> Judged {
    let of = |rest: &[&[u8]]| {
        let rest = rest.iter().map(|frame| frame.to_vec());
        version.client_header().into_iter().chain(rest).collect::<Frames>()
    };
    let mut odd = vec![of(&[]), of(&[b""]), of(&[b"\xff"])];
    match version.request_byte() {
        Some(byte) => odd.extend([
            of(&[&[byte]]),
            of(&[&[byte], b""]),
            of(&[&[byte], b"conform-no-body"]),
            of(&[&[byte], b"\xff\xfe\x00", b"x"]),
            of(&[&[0], b"conform-odd", b"x"]),
            of(&[&[9, 9], b"conform-odd", b"x"]),
        ]),
        None => odd.extend([of(&[b"conform-no-body"]), of(&[b"", b"x"]), of(&[b"\xff\xfe\x00", b"x"])]),
    }
    survives(judge, version, odd.into_iter())
}

/// Each of these messages leaves the broker serving others.
fn survives(judge: &Judge, version: &'static Version, odd: impl Iterator<Item = Frames>) -> Judged {
    let mut count = 0;
    for frames in odd {
        let peer = Client::new(judge, version)?;
        peer.send_frames(&frames)?;
        // Behind it comes something whose effect is seen: the odd one has been read by then.
        let _ = peer.settle();
        alive(judge, version, &frames)?;
        count += 1;
    }
    Ok(format!("the broker bore {count} odd messages"))
}

fn alive(judge: &Judge, version: &'static Version, after: &[Vec<u8>]) -> Result<(), Miss> {
    match judge.serves(version) {
        Err(Miss::Fail(_)) => fail(format!("the broker served nobody any more after {}", show(after))),
        other => other,
    }
}
