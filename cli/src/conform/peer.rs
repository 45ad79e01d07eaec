//! The kit's own peers: bare sockets that say what they are told, and read whatever comes with suspicion.

use std::time::{Duration, Instant};

use super::judge::{Judge, Miss, fail};
use super::wire::{Command, Frames, Reply, ToWorker, Version, show};

/// A frame larger than this is nothing that the kit has asked for.
const MAX_FRAME: i64 = 16 << 20;

fn connect(judge: &Judge, identity: Option<&[u8]>, small: bool) -> Result<zmq::Socket, Miss> {
    let socket = judge.context.socket(zmq::DEALER)?;
    socket.set_linger(0)?;
    socket.set_maxmsgsize(MAX_FRAME)?;
    // What waits for the broker is the kit's own and bounded by its rules; it never blocks.
    socket.set_sndhwm(0)?;
    if let Some(identity) = identity {
        socket.set_identity(identity)?;
    }
    if small {
        socket.set_rcvhwm(1)?;
        socket.set_rcvbuf(4096)?;
    }
    socket.connect(&judge.endpoint)?;
    Ok(socket)
}

/// The next message that comes before `deadline`.
fn receive(socket: &zmq::Socket, deadline: Instant) -> Result<Option<Frames>, Miss> {
    loop {
        // Rounded up: a wait of less than a millisecond is not a wait of none.
        let left = deadline.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        match socket.poll(zmq::POLLIN, i64::try_from(left).unwrap_or(i64::MAX)) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(socket.recv_multipart(zmq::DONTWAIT)?)),
            Err(zmq::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A client: one connection.
pub(super) struct Client<'a> {
    judge: &'a Judge,
    version: &'static Version,
    socket: zmq::Socket,
}

impl<'a> Client<'a> {
    pub(super) fn new(judge: &'a Judge, version: &'static Version) -> Result<Self, Miss> {
        Ok(Client { judge, version, socket: connect(judge, None, false)? })
    }

    /// A client whose routing id is known, as anyone may choose it.
    pub(super) fn with_identity(judge: &'a Judge, version: &'static Version, identity: &[u8]) -> Result<Self, Miss> {
        Ok(Client { judge, version, socket: connect(judge, Some(identity), false)? })
    }

    /// A client whose buffers are as small as they get: what it does not read stays with the broker.
    pub(super) fn with_small_buffers(judge: &'a Judge, version: &'static Version) -> Result<Self, Miss> {
        Ok(Client { judge, version, socket: connect(judge, None, true)? })
    }

    pub(super) fn send_frames(&self, frames: &[Vec<u8>]) -> Result<(), Miss> {
        Ok(self.socket.send_multipart(frames, zmq::DONTWAIT)?)
    }

    pub(super) fn send(&self, service: &str, body: &[Vec<u8>]) -> Result<(), Miss> {
        self.send_frames(&self.version.client_request(service.as_bytes(), body))
    }

    /// The next reply that comes in this time.
    pub(super) fn recv(&self, wait: Duration) -> Result<Option<Reply>, Miss> {
        let Some(frames) = receive(&self.socket, Instant::now() + wait)? else { return Ok(None) };
        match self.version.read_reply(&frames) {
            Some(reply) => Ok(Some(reply)),
            None => fail(format!("the client got no reply of {} but {}", self.version.name, show(&frames))),
        }
    }

    /// Expects this last reply of this service as the next thing that comes.
    pub(super) fn expect(&self, service: &str, body: &[Vec<u8>]) -> Result<(), Miss> {
        let Some(reply) = self.recv(self.judge.patience)? else {
            return fail(format!("no reply came within {:?}", self.judge.patience));
        };
        let wanted = Reply { partial: false, service: service.as_bytes().to_vec(), body: body.to_vec() };
        if reply == wanted { Ok(()) } else { fail(format!("the reply is {}", told(&reply))) }
    }

    /// Expects nothing for a while.
    pub(super) fn expect_nothing(&self) -> Result<(), Miss> {
        match self.recv(self.judge.quiet)? {
            None => Ok(()),
            Some(reply) => fail(format!("a client that waits for nothing got {}", told(&reply))),
        }
    }

    /// Asks the broker's own service; the reply's body, `None` where none comes.
    pub(super) fn ask(&self, service: &str, body: &[Vec<u8>]) -> Result<Option<Frames>, Miss> {
        self.send(service, body)?;
        Ok(self.recv(self.judge.patience)?.map(|reply| reply.body))
    }

    /// Returns once the broker has taken in whatever this client has sent: by a round trip behind it.
    pub(super) fn settle(&self) -> Result<(), Miss> {
        let service = self.judge.service("settle");
        let worker = Worker::new(self.judge, self.version, &service)?;
        worker.ready()?;
        self.send(&service, &[b"settle".to_vec()])?;
        worker.echo()?;
        self.expect(&service, &[b"settle".to_vec()])
    }
}

fn told(reply: &Reply) -> String {
    let kind = if reply.partial { "a part" } else { "a reply" };
    format!("{kind} of {} with {}", show(std::slice::from_ref(&reply.service)), show(&reply.body))
}

/// A request in a worker's hands.
pub(super) struct Request {
    pub(super) address: Vec<u8>,
    pub(super) body: Frames,
}

/// A worker: one connection for one service.
pub(super) struct Worker<'a> {
    judge: &'a Judge,
    version: &'static Version,
    service: String,
    socket: zmq::Socket,
}

impl<'a> Worker<'a> {
    pub(super) fn new(judge: &'a Judge, version: &'static Version, service: &str) -> Result<Self, Miss> {
        Ok(Worker { judge, version, service: service.to_owned(), socket: connect(judge, None, false)? })
    }

    /// A worker that the broker is known to have registered: it has answered a request.
    pub(super) fn registered(judge: &'a Judge, version: &'static Version, service: &str) -> Result<Self, Miss> {
        let worker = Worker::new(judge, version, service)?;
        worker.ready()?;
        let client = Client::new(judge, version)?;
        client.send(service, &[b"register".to_vec()])?;
        worker.echo()?;
        client.expect(service, &[b"register".to_vec()])?;
        Ok(worker)
    }

    pub(super) fn send_frames(&self, frames: &[Vec<u8>]) -> Result<(), Miss> {
        Ok(self.socket.send_multipart(frames, zmq::DONTWAIT)?)
    }

    pub(super) fn say(&self, command: Command, rest: &[Vec<u8>]) -> Result<(), Miss> {
        self.send_frames(&self.version.worker_command(command, rest))
    }

    pub(super) fn ready(&self) -> Result<(), Miss> {
        self.say(Command::Ready, &[self.service.clone().into_bytes()])
    }

    pub(super) fn answer(&self, command: Command, address: &[u8], body: &[Vec<u8>]) -> Result<(), Miss> {
        let envelope = [address.to_vec(), Vec::new()];
        self.say(command, &[&envelope, body].concat())
    }

    pub(super) fn reply(&self, address: &[u8], body: &[Vec<u8>]) -> Result<(), Miss> {
        self.answer(Command::Reply, address, body)
    }

    /// The next thing that comes before `deadline`.
    pub(super) fn next(&self, deadline: Instant) -> Result<Option<ToWorker>, Miss> {
        Ok(receive(&self.socket, deadline)?.map(|frames| self.version.read_to_worker(frames)))
    }

    /// The next REQUEST that comes before `deadline`, without a word meanwhile.
    pub(super) fn next_request(&self, deadline: Instant) -> Result<Option<Request>, Miss> {
        loop {
            match self.next(deadline)? {
                Some(ToWorker::Request { address, body }) => return Ok(Some(Request { address, body })),
                Some(ToWorker::Heartbeat | ToWorker::Odd(_)) if Instant::now() < deadline => {}
                _ => return Ok(None),
            }
        }
    }

    /// The next thing that comes before `deadline` and is no HEARTBEAT.
    pub(super) fn next_but_beats(&self, deadline: Instant) -> Result<Option<ToWorker>, Miss> {
        loop {
            match self.next(deadline)? {
                Some(ToWorker::Heartbeat) if Instant::now() < deadline => {}
                Some(ToWorker::Heartbeat) | None => return Ok(None),
                other => return Ok(other),
            }
        }
    }

    /// Waits for a REQUEST as a live worker does: it beats, and what is no command for it does not bring it down.
    pub(super) fn request_within(&self, wait: Duration) -> Result<Request, Miss> {
        let deadline = Instant::now() + wait;
        let mut odd = None;
        loop {
            let beat = Instant::now() + self.judge.heartbeat / 3;
            match self.next(beat.min(deadline))? {
                Some(ToWorker::Request { address, body }) => return Ok(Request { address, body }),
                Some(ToWorker::Disconnect) => return fail("a worker that waits for work got DISCONNECT"),
                Some(ToWorker::Odd(frames)) => odd = Some(frames),
                Some(ToWorker::Heartbeat) | None => {}
            }
            if Instant::now() >= deadline {
                let also = odd.map_or(String::new(), |frames| format!("; it got {}", show(&frames)));
                return fail(format!("no REQUEST reached the worker within {wait:?}{also}"));
            }
            if Instant::now() >= beat {
                self.say(Command::Heartbeat, &[])?;
            }
        }
    }

    pub(super) fn request(&self) -> Result<Request, Miss> {
        self.request_within(self.judge.patience)
    }

    /// Answers the next request with its own body, which is returned.
    pub(super) fn echo(&self) -> Result<Frames, Miss> {
        let request = self.request()?;
        self.reply(&request.address, &request.body)?;
        Ok(request.body)
    }

    /// Expects a DISCONNECT before silence alone would bring one; what else may come before it passes.
    pub(super) fn expect_disconnect(&self, why: &str) -> Result<(), Miss> {
        let wait = self.judge.patience.min(self.judge.heartbeat * self.judge.liveness * 3 / 4);
        let deadline = Instant::now() + wait;
        loop {
            match self.next(deadline)? {
                Some(ToWorker::Disconnect) => return Ok(()),
                Some(ToWorker::Request { .. }) => return fail(format!("{why} was given a REQUEST")),
                Some(ToWorker::Heartbeat | ToWorker::Odd(_)) if Instant::now() < deadline => {}
                _ => return fail(format!("{why} got no DISCONNECT within {wait:?}")),
            }
        }
    }

    /// Expects that no REQUEST comes for this long; a DISCONNECT is no request.
    pub(super) fn expect_no_request(&self, wait: Duration, why: &str) -> Result<(), Miss> {
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline {
            match self.next(deadline)? {
                Some(ToWorker::Request { body, .. }) => {
                    return fail(format!("{why} got a REQUEST with {}", show(&body)));
                }
                Some(ToWorker::Disconnect) | None => return Ok(()),
                Some(ToWorker::Heartbeat | ToWorker::Odd(_)) => {}
            }
        }
        Ok(())
    }

    /// Expects nothing whatever for this long.
    pub(super) fn expect_silence(&self, wait: Duration, why: &str) -> Result<(), Miss> {
        match receive(&self.socket, Instant::now() + wait)? {
            None => Ok(()),
            Some(frames) => fail(format!("{why} still got {}", show(&frames))),
        }
    }
}
