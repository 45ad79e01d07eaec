//! The script's acts, done.

use super::network::{Event, Link, MS, Owner, State};
use super::script::{Act, Ending, Party};
use super::world::World;

impl World<'_> {
    /// Does an act of the script.
    pub(super) fn on_act(&mut self, index: usize) {
        let script = self.script;
        self.acts_left -= 1;
        match &script.acts[index].act {
            Act::Ask(ask) => self.ask(ask),
            Act::Cut { whose, how } => {
                let Some(link) = self.link_of(*whose) else { return };
                match how {
                    Ending::Closed => self.network.close(self.now, link, true),
                    Ending::Severed => self.network.sever(self.now, link),
                    Ending::Silent => self.network.silence(link),
                }
            }
            Act::Stall { whose, ms } => {
                if let Some(link) = self.link_of(*whose) {
                    self.network.stall(self.now, link, ms * MS);
                }
            }
            Act::Freeze { who, ms } => {
                // A moment at which nothing else happens: what waited stays before what comes then.
                let until = self.now + ms * MS + 1;
                let thaw = match who {
                    Party::Broker => &mut self.broker_thaw,
                    Party::Worker(index) => &mut self.workers[*index].thaw,
                    Party::Client(index) => match self.clients[*index] {
                        Owner::Session(index) => &mut self.sessions[index].thaw,
                        Owner::Older(index) | Owner::Worker(index) => &mut self.olders[index].thaw,
                    },
                };
                // Who stands still already is not stopped again.
                if *thaw <= self.now {
                    *thaw = until;
                    if let Party::Client(client) = who {
                        self.olders.iter_mut().filter(|peer| peer.client == *client).for_each(|peer| peer.thaw = until);
                    }
                }
            }
            Act::Restart { who: Party::Broker, after } => {
                self.broker = None;
                self.broker_thaw = 0;
                self.ledger.begin_anew();
                self.network.close_all(self.now);
                self.network.plan(self.now + after * MS, Event::BrokerBack);
            }
            Act::EndBroker { after } => {
                if self.end_broker() {
                    self.network.plan(self.now + after * MS, Event::BrokerBack);
                }
            }
            Act::Restart { who: Party::Worker(worker), after } => {
                self.kill_worker(*worker);
                self.network.plan(self.now + after * MS, Event::WorkerBack(*worker));
            }
            Act::Restart { who: Party::Client(client), after } => {
                self.kill_client(*client);
                self.network.plan(self.now + after * MS, Event::ClientBack(*client));
            }
            Act::Drain { worker, after } => {
                let peer = &mut self.workers[*worker];
                peer.back_after = after * MS;
                if let Some(machine) = &mut peer.machine {
                    machine.drain(self.clocks.worker(self.now));
                    self.drive_worker(*worker);
                }
            }
            Act::Leave { worker, after } => {
                self.workers[*worker].back_after = after * MS;
                self.leave(*worker);
            }
        }
    }

    fn link_of(&self, party: Party) -> Option<Link> {
        let link = match party {
            Party::Broker => None,
            Party::Worker(index) => self.workers[index].link,
            Party::Client(index) => match self.clients[index] {
                Owner::Session(index) => self.sessions[index].link,
                Owner::Older(index) | Owner::Worker(index) => self.olders[index].link,
            },
        };
        link.filter(|link| self.network.state(*link) == State::Open)
    }
}
