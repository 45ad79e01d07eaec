//! The lines that the agent writes.

use std::io::{Write, stdout};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use majordomo::{ConnectionEvent, EventHook, Message, Properties};
use serde_json::{Value, json};

use crate::command::Problem;

/// The event that closes a command, still without its id.
pub(crate) type Closing = Value;

const LARGEST_BODY_IN_A_LINE: usize = 65536;

/// Writes one line, whole, and flushes it. Nobody is left to tell when the driver has gone.
pub(crate) fn emit(event: &Value) {
    let mut output = stdout().lock();
    let _ = writeln!(output, "{event}").and_then(|()| output.flush());
}

pub(crate) fn ok() -> Closing {
    json!({ "event": "ok" })
}

/// Adds the three fields that describe a body, and its properties where it has any.
pub(crate) fn describe(mut event: Value, body: &Message) -> Value {
    event["sizes"] = body.iter().map(<[u8]>::len).collect();
    event["crc32"] = body.iter().map(crc32fast::hash).collect();
    event["body"] = if body.byte_len() <= LARGEST_BODY_IN_A_LINE {
        body.iter().map(|frame| STANDARD.encode(frame)).collect()
    } else {
        Value::Null
    };
    if !body.properties().is_empty() {
        event["properties"] = flat(body.properties());
    }
    event
}

/// Properties as a list: a name, its value in base64, the next name, ...
pub(crate) fn flat(properties: &Properties) -> Value {
    properties.iter().flat_map(|(name, value)| [name.to_owned(), STANDARD.encode(value)]).collect()
}

/// A hook that writes a line for each event of the connection of a client or worker (`role`) of this name.
pub(crate) fn connection_hook(role: &'static str, name: &str) -> EventHook {
    let name = name.to_owned();
    EventHook::new(move |event| {
        let mut line = json!({ "event": "connection", role: name, "name": event.name() });
        match event {
            ConnectionEvent::Connected { endpoint, protocol } => {
                line["endpoint"] = endpoint.as_str().into();
                line["protocol"] = protocol.name().into();
            }
            ConnectionEvent::Disconnected { endpoint, reason } => {
                line["endpoint"] = endpoint.as_str().into();
                line["reason"] = reason.as_str().into();
            }
            ConnectionEvent::Reconnecting { endpoint } => line["endpoint"] = endpoint.as_str().into(),
            _ => {}
        }
        emit(&line);
    })
}

/// Writes the closing event of a command.
pub(crate) fn close(id: u64, outcome: Result<Closing, Problem>) {
    let mut event = match outcome {
        Ok(event) => event,
        Err(Problem::Failed(text)) => json!({ "event": "failed", "text": text }),
        Err(Problem::Library(error)) => error_fields(json!({ "event": "error" }), &error),
    };
    event["id"] = id.into();
    emit(&event);
}

/// Adds what the error's own object says of it.
pub(crate) fn error_fields(mut event: Value, error: &majordomo::Error) -> Value {
    event["kind"] = error.kind().name().into();
    event["number"] = error.kind().number().into();
    event["retryable"] = error.is_retryable().into();
    match error.service_error() {
        Some(failure) => {
            event["service_code"] = failure.code.into();
            event["text"] = failure.text.as_str().into();
        }
        None => event["text"] = error.to_string().into(),
    }
    event
}
