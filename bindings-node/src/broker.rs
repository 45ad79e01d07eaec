//! The embedded broker. It runs on a thread of its own; calls that wait for it do so on another.

use std::sync::Arc;
use std::thread;

use majordomo::aio::Inbox;
use majordomo::{Broker, Error, ErrorKind};
use napi_derive::napi;

use crate::environment::{Environment, TaskEvent};
use crate::error::{Result, thrown};
use crate::options::BrokerOptions;

/// A broker inside this process.
#[napi]
pub struct NativeBroker {
    broker: Arc<Broker>,
}

#[napi]
impl NativeBroker {
    /// Binds and starts. Binding does not wait for anybody, so this is done on the calling thread.
    #[napi(constructor, catch_unwind)]
    pub fn new(options: BrokerOptions) -> Result<Self> {
        let broker = Broker::with_options(options.to_core()?).map_err(|error| thrown(&error))?;
        Ok(NativeBroker { broker: Arc::new(broker) })
    }

    /// The bound endpoints, ports resolved.
    #[napi(catch_unwind)]
    pub fn endpoints(&self) -> Vec<String> {
        self.broker.endpoints().to_vec()
    }

    /// Asks for the broker's numbers; they come through `environment` as JSON.
    #[napi(catch_unwind)]
    pub fn stats(&self, environment: &Environment, token: i64) {
        self.aside(environment, token, |broker| {
            let json = serde_json::to_string(&broker.stats()?);
            json.map(Some).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))
        });
    }

    /// Says DISCONNECT to the workers and ends; the event comes when it is gone.
    #[napi(catch_unwind)]
    pub fn stop(&self, environment: &Environment, token: i64) {
        self.aside(environment, token, |broker| {
            broker.stop()?;
            broker.wait()?;
            Ok(None)
        });
    }

    fn aside(
        &self,
        environment: &Environment,
        token: i64,
        call: impl FnOnce(&Broker) -> majordomo::Result<Option<String>> + Send + 'static,
    ) {
        let (broker, inbox) = (self.broker.clone(), environment.tasks().clone());
        let token = token.cast_unsigned();
        let spawned = thread::Builder::new().name("majordomo-call".to_owned()).spawn(move || {
            let outcome = call(&broker);
            inbox.push(TaskEvent { token, outcome });
        });
        if let Err(error) = spawned {
            let outcome = Err(Error::new(ErrorKind::Internal, format!("no thread for the call: {error}")));
            Inbox::push(environment.tasks(), TaskEvent { token, outcome });
        }
    }
}
