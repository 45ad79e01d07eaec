//! A seed's script. Each seed has a mix of faults of its own.

use super::random::Random;
use super::script::{
    Act, Ask, BrokerSetting, ClientSetting, Ending, Kind, Party, Planned, Script, Setting, Speaks, WorkerSetting,
};

/// The service of one worker that keeps outcomes and never dies.
pub const KEEPER: &str = "keeper";
/// A service without workers.
pub const NOBODY: &str = "nobody";

/// The last fault and the last request, in milliseconds.
const LAST_FAULT: u64 = 2_500;
const LAST_REQUEST: u64 = 3_000;

/// What a request counts in bytes while it waits, or somewhat more.
const REQUEST_BYTES: usize = 80;

/// What may go wrong in a world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix {
    /// Worker processes die and come back.
    pub restart_workers: bool,
    /// Client processes die and come back as others.
    pub restart_clients: bool,
    /// The broker dies and comes back.
    pub restart_broker: bool,
    /// Connections break, and both sides learn of it.
    pub cut: bool,
    /// Connections break without a word: only silence tells.
    pub silence: bool,
    /// Connections stand still, so that late messages of an old one come beside those of the new one.
    pub stall: bool,
    /// Processes and hosts stand still.
    pub freeze: bool,
    /// Some handlers take long, and attempts have a limit.
    pub slow: bool,
    /// Every request may run once at most.
    pub once: bool,
    /// Callers who give up, have little time, want no second attempt or no waiting; handlers that want one.
    pub impatient: bool,
    /// Workers leave in good order and come back.
    pub drain: bool,
    /// Workers leave with what they hold, and say so.
    pub leave: bool,
    /// The broker's limits are so small that it has to refuse.
    pub tight: bool,
    /// Requests may be handed out few times.
    pub few: bool,
    /// The broker ends in good order and comes back.
    pub end_broker: bool,
}

impl Mix {
    /// Everything at once.
    pub fn all() -> Mix {
        Mix {
            restart_workers: true,
            restart_clients: true,
            restart_broker: true,
            cut: true,
            silence: true,
            stall: true,
            freeze: true,
            slow: true,
            once: false,
            impatient: true,
            drain: true,
            leave: true,
            tight: false,
            few: true,
            end_broker: true,
        }
    }

    /// The seed's own mix: nothing at all in some, one or two things in many, much in a few.
    pub fn of(seed: u64) -> Mix {
        let mut random = Random::of(seed, 1, 0);
        let percent = [0, 15, 15, 30, 60][random.below(5) as usize];
        let mut some = || random.chance(percent);
        Mix {
            restart_workers: some(),
            restart_clients: some(),
            restart_broker: some(),
            cut: some(),
            silence: some(),
            stall: some(),
            freeze: some(),
            slow: some(),
            impatient: some(),
            drain: some(),
            leave: some(),
            once: some() && some(),
            tight: some() && some(),
            few: some(),
            end_broker: some(),
        }
    }

    /// Whether somebody may be taken for dead who is not.
    fn deceives(self) -> bool {
        self.silence || self.stall || self.freeze
    }
}

/// The seed's script with this mix of faults.
pub fn script(seed: u64, mix: Mix) -> Script {
    let mut random = Random::of(seed, 2, 0);
    let services = 1 + random.below(3);
    let heartbeat = [150, 300, 600][random.below(3) as usize];
    let workers = workers(&mut random, mix, services, heartbeat);
    let clients: Vec<_> = (0..1 + random.below(4)).map(|_| client(&mut random, mix)).collect();
    let broker = broker(&mut random, mix, heartbeat);
    let setting =
        Setting { seed, delay: 1 + random.below(5), slow: if mix.slow { 10 } else { 0 }, broker, clients, workers };
    let mut acts = Vec::new();
    asks(&mut random, mix, &setting, services, &mut acts);
    faults(&mut random, mix, &setting, services, &mut acts);
    acts.sort_by_key(|planned| planned.at);
    Script { setting, acts }
}

fn broker(random: &mut Random, mix: Mix, heartbeat: u64) -> BrokerSetting {
    let limit = |random: &mut Random, most: usize| if mix.tight { 1 + random.below(8) as usize } else { most };
    BrokerSetting {
        heartbeat,
        credit: 1 + random.below(6) as u32,
        max_attempts: match mix {
            Mix { once: true, .. } => 1,
            Mix { few: true, .. } => [1, 2, 3, 100][random.below(4) as usize],
            _ => 100,
        },
        attempt_timeout: mix.slow.then_some(1_000),
        request_ttl: if mix.tight { 2_000 } else { 15_000 },
        max_queued: (limit(random, 100_000), limit(random, 100_000)),
        max_queued_bytes: (limit(random, 100_000) * REQUEST_BYTES, limit(random, 100_000) * REQUEST_BYTES),
        max_services: limit(random, 10_000),
        max_workers: limit(random, 100_000),
        max_sessions: limit(random, 100_000),
    }
}

fn client(random: &mut Random, mix: Mix) -> ClientSetting {
    let speaks = [Speaks::V01, Speaks::V02, Speaks::X1, Speaks::X1, Speaks::X1, Speaks::Auto][random.below(6) as usize];
    let older = matches!(speaks, Speaks::V01 | Speaks::V02);
    ClientSetting {
        speaks,
        timeout: random.between(1_000, 3_000),
        retries: if mix.once && older { 1 } else { 30 },
        deadline: if mix.tight { 3_000 } else { 60_000 },
        max_in_flight: 1 + random.below(8) as usize,
        blocking: older || random.chance(30),
    }
}

fn workers(random: &mut Random, mix: Mix, services: u64, heartbeat: u64) -> Vec<WorkerSetting> {
    let worker = |random: &mut Random, service: String, speaks: Speaks| WorkerSetting {
        service,
        speaks,
        // Unequal settings on the two sides are part of every world.
        heartbeat: heartbeat * [1, 2, 4, 6, 16][random.below(5) as usize] / 4,
        concurrency: 1 + random.below(3) as usize,
        prefetch: random.below(4) as usize,
        keeps: false,
    };
    let count = if mix.drain { 2 * services } else { services + random.below(3) };
    // The older protocols have no good order to leave in.
    let oldest = if mix.drain && !mix.deceives() { 2 } else { 0 };
    let mut all: Vec<_> = (0..count)
        .map(|index| {
            let speaks = [Speaks::V01, Speaks::V02, Speaks::X1, Speaks::X1, Speaks::Auto];
            let speaks = speaks[oldest + random.below((speaks.len() - oldest) as u64) as usize];
            worker(random, format!("s{}", index % services), speaks)
        })
        .collect();
    all.push(WorkerSetting { keeps: true, ..worker(random, KEEPER.to_owned(), Speaks::X1) });
    all
}

fn asks(random: &mut Random, mix: Mix, setting: &Setting, services: u64, acts: &mut Vec<Planned>) {
    let mut id = 0;
    for (client, ClientSetting { speaks, .. }) in setting.clients.iter().enumerate() {
        let older = matches!(speaks, Speaks::V01 | Speaks::V02);
        // Some come in a crowd, so that the credit is used up; some without a pause, so that nobody has to beat.
        let crowd = random.below(LAST_REQUEST * 1000);
        let dense = random.chance(10);
        let count = if dense { 30 } else { 1 + random.below(if older { 5 } else { 12 }) };
        for index in 0..count {
            let at = match random.below(2) {
                _ if dense => index * LAST_REQUEST * 1000 / count + random.below(50_000),
                0 if !older => crowd,
                _ => random.below(LAST_REQUEST * 1000),
            };
            let ask = ask(random, mix, id, client, older, services);
            acts.push(Planned { at, act: Act::Ask(ask) });
            id += 1;
        }
    }
}

fn ask(random: &mut Random, mix: Mix, id: usize, client: usize, older: bool, services: u64) -> Ask {
    let impatient = mix.impatient;
    let kind = match random.below(12) {
        0 => Kind::Fail,
        1 => Kind::Question,
        2 if impatient && !older => Kind::Retry,
        3 | 4 if !older => Kind::Keep,
        _ => Kind::Echo,
    };
    let mut some = |percent: u64| impatient && !older && random.chance(percent);
    let (once, fail_fast, hurries, unserved, cancels) = (mix.once || some(20), some(10), some(20), some(3), some(15));
    let service = match kind {
        _ if unserved => NOBODY.to_owned(),
        Kind::Keep => KEEPER.to_owned(),
        _ => format!("s{}", random.below(services)),
    };
    let kind = if unserved && kind == Kind::Keep { Kind::Echo } else { kind };
    Ask {
        id,
        client,
        service,
        kind,
        parts: random.chance(50),
        once: once && !older,
        fail_fast,
        key: !older && random.chance(30),
        hurry: hurries.then(|| random.between(1, 1_500)),
        cancel: cancels.then(|| random.below(300)),
    }
}

fn faults(random: &mut Random, mix: Mix, setting: &Setting, services: u64, acts: &mut Vec<Planned>) {
    let (clients, workers) = (setting.clients.len() as u64, setting.workers.len() as u64);
    // The last one keeps outcomes. Where nothing else goes wrong, one is always left for each service to answer.
    let first = if mix.deceives() { 0 } else { services };
    let mortals = workers - 1 - first.min(workers - 1);
    let mut plan = |random: &mut Random, happens: bool, most: u64, act: &mut dyn FnMut(&mut Random) -> Option<Act>| {
        if happens {
            for _ in 0..1 + random.below(most) {
                let at = random.below(LAST_FAULT * 1000);
                acts.extend(act(random).map(|act| Planned { at, act }));
            }
        }
    };
    let mortal = |random: &mut Random| (mortals > 0).then(|| (first + random.below(mortals)) as usize);
    let peer = |random: &mut Random| match random.below(clients + workers) {
        index if index < clients => Party::Client(index as usize),
        index => Party::Worker((index - clients) as usize),
    };
    plan(random, mix.restart_workers, 4, &mut |random| {
        let who = Party::Worker(mortal(random)?);
        Some(Act::Restart { who, after: random.between(10, 2_000) })
    });
    plan(random, mix.drain, 4, &mut |random| {
        Some(Act::Drain { worker: mortal(random)?, after: random.between(10, 2_000) })
    });
    plan(random, mix.leave, 3, &mut |random| {
        Some(Act::Leave { worker: mortal(random)?, after: random.between(10, 2_000) })
    });
    plan(random, mix.restart_clients, 2, &mut |random| {
        let who = Party::Client(random.below(clients) as usize);
        Some(Act::Restart { who, after: random.between(10, 1_000) })
    });
    plan(random, mix.restart_broker, 2, &mut |random| {
        Some(Act::Restart { who: Party::Broker, after: random.between(1, 1_500) })
    });
    plan(random, mix.cut, 5, &mut |random| {
        let how = if random.chance(50) { Ending::Severed } else { Ending::Closed };
        Some(Act::Cut { whose: peer(random), how })
    });
    plan(random, mix.silence, 4, &mut |random| Some(Act::Cut { whose: peer(random), how: Ending::Silent }));
    plan(random, mix.stall, 4, &mut |random| Some(Act::Stall { whose: peer(random), ms: random.between(10, 3_000) }));
    plan(random, mix.freeze, 3, &mut |random| {
        let who = if random.chance(25) { Party::Broker } else { peer(random) };
        Some(Act::Freeze { who, ms: random.between(10, 2_500) })
    });
    plan(random, mix.end_broker, 2, &mut |random| Some(Act::EndBroker { after: random.between(1, 1_500) }));
}
