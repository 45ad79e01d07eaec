// Bugs to plant: defects that implementations of Majordomo have had, and more of the kind that a change may bring.
// `build.rs` and `tests/planted.rs` both include this.

/// A bug.
pub(crate) struct Bug {
    /// What it does.
    pub(crate) name: &'static str,
    /// A text that stands in exactly one place of the machines' sources.
    pub(crate) find: &'static str,
    /// What is put in its place; `PLANTED` is whether this bug is in force.
    pub(crate) replace: &'static str,
}

pub(crate) const BUGS: &[Bug] = &[
    Bug {
        name: "a request in the hands of a worker that dies is lost",
        find: "        for request in worker.held.iter().filter_map(|(_, delivery)| delivery.request) {\n",
        replace: "        for request in worker.held.iter().filter_map(|(_, delivery)| delivery.request).filter(|_| !PLANTED) {\n",
    },
    Bug {
        name: "expiry stops at the first live worker",
        find: "        if now.saturating_duration_since(at) > interval {\n            // We were",
        replace: "        if (PLANTED && serial > 2) || now.saturating_duration_since(at) > interval {\n            // We were",
    },
    Bug {
        name: "a service that was only asked for counts as served",
        find: "        self.workers > self.draining\n",
        replace: "        self.workers > self.draining || (PLANTED && self.queued() > 0)\n",
    },
    Bug {
        name: "a worker that leaves while busy ends the broker",
        find: "        let Some((_, worker)) = self.workers.key(peer).and_then(|key| self.workers.remove(key)) else { return false };\n",
        replace: "        let Some((_, worker)) = self.workers.key(peer).and_then(|key| self.workers.remove(key)) else { return false };\n        assert!(!PLANTED || worker.held.is_empty(), \"a busy worker left\");\n",
    },
    Bug {
        name: "a late answer of a given-up attempt counts",
        find: "        held.request = None;\n",
        replace: "        if PLANTED {\n            held.since += std::time::Duration::from_secs(3600);\n        } else {\n            held.request = None;\n        }\n",
    },
    Bug {
        name: "requests wait for ever",
        find: "        if self.expiry.is_none_or(|expiry| expires.is_some_and(|expires| expires < expiry)) {\n",
        replace: "        if !PLANTED && self.expiry.is_none_or(|expiry| expires.is_some_and(|expires| expires < expiry)) {\n",
    },
    Bug {
        name: "services that nobody needs stay",
        find: "        self.workers == 0 && self.queued() == 0 && self.in_flight == 0\n",
        replace: "        self.workers == 0 && self.queued() == 0 && self.in_flight == 0 && !PLANTED\n",
    },
    Bug {
        name: "a request that comes again is run again",
        find: "        if number > self.highest {\n",
        replace: "        if number > self.highest || (PLANTED && matches!(self.slots.get(number), Some(Slot::Open(_)))) {\n",
    },
    Bug {
        name: "after an answer the next waiting request is left waiting",
        find: "        if service.queued() > 0 {\n            let service = worker.service;\n",
        replace: "        if service.queued() > 0 && !(PLANTED && worker.held.is_empty()) {\n            let service = worker.service;\n",
    },
    Bug {
        name: "a part of a reply makes its worker free",
        find: "                Some(request) => self.forward_part(now, key, delivery, request, body),\n",
        replace: "                Some(request) => {\n                    self.forward_part(now, key, delivery, request, body);\n                    if PLANTED && let Some(worker) = self.workers.get_mut(key) {\n                        worker.held.remove(delivery);\n                        self.settle_worker(now, key);\n                    }\n                }\n",
    },
    Bug {
        name: "silence is counted by the wall clock",
        find: "        self.last_heard = now;\n",
        replace: "        self.last_heard = if PLANTED { Instant::now() } else { now };\n",
    },
    Bug {
        name: "heartbeats stop while the handler runs",
        find: "    fn beat(&mut self, now: Instant) {\n",
        replace: "    fn beat(&mut self, now: Instant) {\n        if PLANTED && self.is_busy() {\n            return self.heartbeat.sent(now);\n        }\n",
    },
    Bug {
        name: "a worker that lost its broker does not come back",
        find: "            let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16));\n",
        replace: "            let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16));\n            if PLANTED {\n                return self.state = State::Detached;\n            }\n",
    },
    Bug {
        name: "only a heartbeat is a sign of a worker's life",
        find: "        worker.heartbeat.heard(now);\n        // Only a part leaves",
        replace: "        if !PLANTED {\n            worker.heartbeat.heard(now);\n        }\n        // Only a part leaves",
    },
    Bug {
        name: "only a heartbeat is a sign of a broker's life",
        find: "        self.failures = 0;\n        self.heartbeat.heard(now);\n",
        replace: "        self.failures = 0;\n        if !PLANTED {\n            self.heartbeat.heard(now);\n        }\n",
    },
    Bug {
        name: "a worker leaves without a word",
        find: "    fn leave(&mut self, now: Instant) {\n",
        replace: "    fn leave(&mut self, now: Instant) {\n        if PLANTED {\n            return self.outputs.push(WorkerOutput::Close);\n        }\n",
    },
    Bug {
        name: "a call has no deadline",
        find: "            if request.deadline > now {\n                self.deadlines",
        replace: "            if PLANTED {\n            } else if request.deadline > now {\n                self.deadlines",
    },
    Bug {
        name: "an answer goes to another request",
        find: "                self.finish(now, number, Ok(layout.into_message(header, frames)));\n",
        replace: "                let number = if PLANTED { self.requests.first().map_or(number, |(first, _)| first) } else { number };\n                self.finish(now, number, Ok(layout.into_message(header, frames)));\n",
    },
    Bug {
        name: "a request of an older protocol is given up without its connection",
        find: "            self.connect();\n            self.send();\n        } else {\n",
        replace: "            if !PLANTED {\n                self.connect();\n            }\n            self.send();\n        } else {\n",
    },
    Bug {
        name: "heartbeats must be equal on both sides",
        find: "        gap < self.interval * 3 / 4 &&",
        replace: "        !PLANTED && gap < self.interval * 3 / 4 &&",
    },
    Bug {
        name: "a worker gets more than it can hold",
        find: "        !self.draining && self.load() < self.capacity\n",
        replace: "        !self.draining && self.load() < self.capacity + u32::from(PLANTED)\n",
    },
    Bug {
        name: "a draining worker gets work",
        find: "let is_news = !std::mem::replace(&mut worker.draining, true);\n",
        replace: "let is_news = !std::mem::replace(&mut worker.draining, !PLANTED) && !PLANTED;\n",
    },
    Bug {
        name: "a worker that left still counts as one that drains",
        find: "            service.draining -= usize::from(worker.draining);\n",
        replace: "            service.draining -= usize::from(worker.draining && !PLANTED);\n",
    },
    Bug {
        name: "a client asks more than its credit",
        find: "        while self.outstanding < self.credit\n",
        replace: "        while self.outstanding < self.credit + usize::from(PLANTED)\n",
    },
    Bug {
        name: "outcomes are not acknowledged",
        find: "    pub(super) fn ack(&mut self) {\n",
        replace: "    pub(super) fn ack(&mut self) {\n        if PLANTED {\n            return;\n        }\n",
    },
    Bug {
        name: "what was sent is not sent again over the next connection",
        find: "                self.queue.push_front(number);\n",
        replace: "                if !PLANTED {\n                    self.queue.push_front(number);\n                }\n",
    },
    Bug {
        name: "outcomes are not kept for a client that is away",
        find: "        session.keep(number, outcome);\n",
        replace: "        if PLANTED && session.peer.is_none() {\n            session.end(number);\n        } else {\n            session.keep(number, outcome);\n        }\n",
    },
    Bug {
        name: "a worker that was told to keep outcomes runs a repeat",
        find: "            if let Some(answer) = self.outcomes.get(now, key) {\n",
        replace: "            if let Some(answer) = self.outcomes.get(now, key).filter(|_| !PLANTED) {\n",
    },
    Bug {
        name: "attempts are not counted",
        find: "        request.attempts += 1;\n",
        replace: "        request.attempts += u32::from(!PLANTED);\n",
    },
    Bug {
        name: "a stream is begun again after its first part",
        find: "        let end = if request.parts > 0 {\n",
        replace: "        if PLANTED {\n            request.parts = 0;\n        }\n        let end = if request.parts > 0 {\n",
    },
    Bug {
        name: "a limit drops what was taken in",
        find: "        request.joined = None;\n        request.avoid = avoid.and_then(NonZeroU64::new);\n",
        replace: "        if PLANTED && self.queued >= self.config.max_queued {\n            return self.forget(id);\n        }\n        request.joined = None;\n        request.avoid = avoid.and_then(NonZeroU64::new);\n",
    },
    Bug {
        name: "queues have no limit",
        find: "        if left.requests == 0 {\n            return full(\"max_queued is reached\");\n",
        replace: "        if !PLANTED && left.requests == 0 {\n            return full(\"max_queued is reached\");\n",
    },
    Bug {
        name: "tables have no limit",
        find: "        if self.workers.len() >= self.config.max_workers {\n",
        replace: "        if !PLANTED && self.workers.len() >= self.config.max_workers {\n",
    },
    Bug {
        name: "a client that slept takes the broker's rest for silence",
        find: "(owed_nothing || self.silence_due.is_none())",
        replace: "((!PLANTED && owed_nothing) || self.silence_due.is_none())",
    },
    Bug {
        name: "an attempt that could not be sent counts",
        find: "        self.take_back_outputs(peer);\n",
        replace: "        if !PLANTED {\n            self.take_back_outputs(peer);\n        }\n",
    },
    Bug {
        name: "the session of a client that died stays",
        find: "            session.forget_at = Some(now + session.heartbeat * session.liveness);\n",
        replace: "            session.forget_at = (!PLANTED).then(|| now + session.heartbeat * session.liveness);\n",
    },
    Bug {
        name: "a connection of an earlier session takes the later one with it",
        find: "        if let Some(before) = before.filter(|before| *before != peer) {\n            self.forget_connection(&before);\n",
        replace: "        if let Some(before) = before.filter(|before| *before != peer && !PLANTED) {\n            self.forget_connection(&before);\n",
    },
    Bug {
        name: "the last of the permitted attempts is called the only one",
        find: "            Some((ErrorKind::AttemptsExhausted, ",
        replace: "            Some((if PLANTED { ErrorKind::WorkerLost } else { ErrorKind::AttemptsExhausted }, ",
    },
    Bug {
        name: "a request is handed out once more than it may be",
        find: "        } else if attempts >= max_attempts {\n",
        replace: "        } else if attempts >= max_attempts + u32::from(PLANTED) {\n",
    },
    Bug {
        name: "a request is given up an attempt too early",
        find: "        let (attempts, max_attempts) = (request.attempts, request.max_attempts);\n",
        replace: "        let (attempts, max_attempts) = (request.attempts + u32::from(PLANTED), request.max_attempts);\n",
    },
    Bug {
        name: "an answer is taken for the loss of its worker",
        find: "            (Some(id), Answer::Final(body)) => self.finish(now, id, Outcome::Reply(body)),\n",
        replace: "            (Some(id), Answer::Final(_)) if PLANTED && delivery % 8 == 0 => self.give_back(now, id, None),\n            (Some(id), Answer::Final(body)) => self.finish(now, id, Outcome::Reply(body)),\n",
    },
    Bug {
        name: "a message that cannot be routed vanishes without a trace",
        find: "        self.counters.undeliverable += 1;\n",
        replace: "        if PLANTED {\n            return;\n        }\n        self.counters.undeliverable += 1;\n",
    },
    Bug {
        name: "a service's queue has no limit of its own",
        find: "        } else if left_of_service.requests == 0 {\n",
        replace: "        } else if !PLANTED && left_of_service.requests == 0 {\n",
    },
    Bug {
        name: "bytes that wait have no limit",
        find: "        } else if left.bytes < bytes {\n",
        replace: "        } else if !PLANTED && left.bytes < bytes {\n",
    },
    Bug {
        name: "bytes that wait for a service have no limit",
        find: "        } else if left_of_service.bytes < bytes {\n",
        replace: "        } else if !PLANTED && left_of_service.bytes < bytes {\n",
    },
    Bug {
        name: "bytes that wait are not counted",
        find: "            Held::Packed(bytes) => bytes.len() + FRAME_COST,\n",
        replace: "            Held::Packed(_) if PLANTED => 0,\n            Held::Packed(bytes) => bytes.len() + FRAME_COST,\n",
    },
    Bug {
        name: "bytes that waited are not given back",
        find: "        self.queued_bytes -= bytes;\n",
        replace: "        self.queued_bytes -= if PLANTED { 0 } else { bytes };\n",
    },
    Bug {
        name: "what is kept for clients has no limit",
        find: "        if kept.is_greedy(left) {\n",
        replace: "        if !PLANTED && kept.is_greedy(left) {\n",
    },
    Bug {
        name: "a broker that ends does not tell its clients",
        find: "        workers.extend(sessions);\n",
        replace: "        workers.extend(sessions.filter(|_| !PLANTED));\n",
    },
    Bug {
        name: "a dead worker is noticed an interval too late",
        find: "        self.last_heard + self.patience\n",
        replace: "        self.last_heard + self.patience + self.interval.max(self.slowest) * u32::from(PLANTED)\n",
    },
];
