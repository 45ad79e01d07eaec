//! What time brings: ends that come late, silence, acknowledgements, and the sweeping of queues.

use std::cmp::Reverse;
use std::time::Instant;

use crate::error::{Error, ErrorKind};

use super::request::Request;
use super::{SWEPT_FROM, Session, Stage, Trouble};

impl Session {
    pub(super) fn end_late(&mut self, now: Instant) {
        while let Some(Reverse((due, number))) = self.deadlines.peek().copied()
            && due <= now
        {
            self.deadlines.pop();
            let Some(request) = self.requests.get(number) else { continue };
            if request.deadline > now {
                self.deadlines.push(Reverse((request.deadline, number)));
            } else {
                let error = self.late(request);
                self.cancel(now, number, error);
            }
        }
    }

    pub(super) fn late(&self, request: &Request) -> Error {
        let (service, brokers) = (&request.asked.terms.service, self.config.endpoints.join(", "));
        let Trouble { refusal, text, .. } = &self.trouble;
        let trouble = if text.is_empty() { String::new() } else { format!(" ({text})") };
        if request.was_sent {
            let part = if request.parts > 0 { " after part of the reply had arrived" } else { "" };
            return Error::new(
                ErrorKind::Timeout,
                format!("no reply from {service:?} by {brokers} in time{part}{trouble}"),
            );
        }
        if matches!(self.stage, Stage::Ready) {
            let limit = self.credit;
            return Error::new(
                ErrorKind::Timeout,
                format!("the request to {service:?} waited for its turn: {limit} requests were outstanding"),
            );
        }
        if let Some(kind) = refusal {
            return Error::new(
                *kind,
                format!("{brokers} did not take the client, so {service:?} could not be asked{trouble}"),
            );
        }
        if matches!(self.stage, Stage::Asking { connect_by: None, .. } | Stage::Greeting { is_out: true, .. }) {
            let text = format!("{brokers} did not say in time what it speaks, so {service:?} could not be asked");
            return Error::new(ErrorKind::Timeout, text);
        }
        Error::new(
            ErrorKind::BrokerUnreachable,
            format!("no broker could be reached at {brokers} for {service:?}{trouble}"),
        )
    }

    pub(super) fn look_for_silence(&mut self, now: Instant) {
        if self.silence_due.is_none_or(|due| due > now) {
            return;
        }
        let due = self.heard + self.patience;
        if self.outstanding == 0 {
            self.silence_due = None;
        } else if due > now {
            self.silence_due = Some(due);
        } else {
            self.lost(now, None, format!("the broker was silent for {:?}", self.patience));
        }
    }

    pub(super) fn look_for_acks(&mut self, now: Instant) {
        if self.ack_due.is_some_and(|due| due <= now) {
            self.ack_due = None;
            self.ack();
        }
    }

    /// Drops from the queues what belongs to no request, once that is most of it.
    pub(super) fn sweep(&mut self) {
        let limit = SWEPT_FROM.max(2 * self.requests.len());
        let requests = &self.requests;
        for numbers in [&mut self.queue, &mut self.sent] {
            if numbers.len() > limit {
                numbers.retain(|number| requests.get(*number).is_some());
            }
        }
        if self.deadlines.len() > limit {
            self.deadlines.retain(|Reverse((_, number))| requests.get(*number).is_some());
        }
    }
}
