//! Brokers inside this process.

use std::sync::Arc;

use majordomo::Broker;
use serde_json::json;

use crate::command::{Command, Named, Problem};
use crate::event::{Closing, ok};

#[derive(Default)]
pub(crate) struct Brokers(Named<Arc<Broker>>);

impl Brokers {
    pub(crate) fn start(&self, command: &Command) -> Result<Closing, Problem> {
        let broker = Broker::start(command.text("bind")?)?;
        let endpoint = broker.endpoint().to_owned();
        self.0.put(command.text("broker")?, Arc::new(broker));
        Ok(json!({ "event": "ok", "endpoint": endpoint }))
    }

    pub(crate) fn stop(&self, command: &Command) -> Result<Closing, Problem> {
        self.0.take(command.text("broker")?)?.stop()?;
        Ok(ok())
    }

    pub(crate) fn close_all(&self) {
        for broker in self.0.take_all() {
            // The process ends; a broker that has already stopped is as good as one that stops now.
            let _ = broker.stop();
        }
    }
}
