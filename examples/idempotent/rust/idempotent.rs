//! A request that may be asked again: the worker keeps its outcome by the caller's key, and a failure that may pass goes to
//! another attempt (MDPX).

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use majordomo::{Client, Message, Properties, Request, ServiceError, Worker, WorkerOptions};

/// A header of this application's own.
const TENANT: &str = "x-tenant";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[derive(Default)]
struct Counts {
    calls: AtomicU32,
    charges: AtomicU32,
}

fn charge(request: &Request, counts: &Counts) -> majordomo::Result<()> {
    counts.calls.fetch_add(1, Ordering::Relaxed);
    let Some(tenant) = request.properties().text(TENANT) else {
        return request.fail(400, "whom shall I charge?");
    };
    if request.attempt() == 1 {
        // A failure that may pass: the broker makes another attempt, by another worker where there is one.
        return request.fail_with(ServiceError::new(503, "the till is closed").retryable(true));
    }
    counts.charges.fetch_add(1, Ordering::Relaxed);
    let amount = request.body().first().map(String::from_utf8_lossy).unwrap_or_default();
    let text = format!("charged {amount} to {tenant} at attempt {}", request.attempt());
    let mut properties = Properties::new();
    properties.set(Properties::CONTENT_TYPE, "text/plain")?;
    // Who traces requests through several services hands the trace on.
    properties.set(Properties::TRACEPARENT, request.properties().text(Properties::TRACEPARENT).unwrap_or_default())?;
    request.reply(Message::from(text).with_properties(properties))
}

fn order(tenant: Option<&str>) -> majordomo::Result<Message> {
    let mut properties = Properties::new();
    properties.set(Properties::CONTENT_TYPE, "text/plain")?;
    properties.set(Properties::TRACEPARENT, TRACE)?;
    if let Some(tenant) = tenant {
        properties.set(Properties::IDEMPOTENCY_KEY, "order-1")?;
        properties.set(TENANT, tenant)?;
    }
    Ok(Message::from("7 EUR").with_properties(properties))
}

fn main() -> Result<(), Box<dyn Error>> {
    let broker = std::env::args().nth(1).ok_or("usage: idempotent ENDPOINT")?;

    let worker = Worker::with_options(WorkerOptions::new(&broker, "idempotent").keep_outcomes(100))?;
    let counts = Counts::default();
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        scope.spawn(|| {
            for request in &worker {
                if let Err(error) = charge(&request, &counts) {
                    eprintln!("{error}");
                }
            }
        });

        let client = Client::connect(&broker)?;
        for time in ["first", "again"] {
            let reply = client.request("idempotent", order(Some("acme"))?)?;
            let property = |name| reply.properties().text(name).unwrap_or_default();
            let (kind, trace) = (property(Properties::CONTENT_TYPE), property(Properties::TRACEPARENT));
            println!("{time}: {} ({kind}, trace {trace})", String::from_utf8_lossy(&reply[0]));
        }
        let [calls, charges] = [&counts.calls, &counts.charges].map(|count| count.load(Ordering::Relaxed));
        println!("calls of the handler: {calls}, charges: {charges}");

        if let Err(error) = client.request("idempotent", order(None)?)
            && let Some(ServiceError { code, text, retryable }) = error.service_error()
        {
            println!("without a tenant: {} {code}, retryable: {retryable}, {text:?}", error.kind().name());
        }
        worker.drain();
        Ok(())
    })
}
