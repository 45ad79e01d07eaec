//! Running handlers side by side inside of one future, without a runtime.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::error::{ErrorKind, Result};
use crate::worker::Request;

use super::worker::Recv;

/// Gives every request to `handler` until the worker ends, and waits for the handlers that still run. There are never
/// more of them than `concurrency`. The handler of a cancelled request is dropped, which answers the request.
pub(super) async fn serve<H, F>(mut requests: Recv, handler: H) -> Result<()>
where
    H: Fn(Request) -> F,
    F: Future<Output = ()>,
{
    let alarm = Arc::new(Alarm::default());
    let mut handlers: Vec<Slot<F>> = Vec::new();
    let mut end = None;
    poll_fn(|context| {
        alarm.listen(context);
        while end.is_none() {
            match Pin::new(&mut requests).poll(context) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => end = Some(error),
                // A handler that panics before its future exists has dropped its request, which answers it.
                Poll::Ready(Ok(request)) => {
                    let id = request.id();
                    match catch_unwind(AssertUnwindSafe(|| handler(request))) {
                        Ok(future) => seat(&mut handlers, &alarm, id, Box::pin(future)),
                        Err(_) => log::error!("a handler panicked"),
                    }
                }
            }
        }
        let cancellations = requests.cancellations();
        if cancellations.has_entries() {
            for slot in handlers.iter_mut().filter(|slot| slot.future.is_some()) {
                if cancellations.is_cancelled(slot.id) {
                    slot.end();
                }
            }
        }
        for index in alarm.take() {
            if let Some(slot) = handlers.get_mut(index) {
                slot.poll();
            }
        }
        if end.is_some() && handlers.iter().all(|slot| slot.future.is_none()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    match end {
        Some(error) if error.kind() != ErrorKind::Closed => Err(error),
        _ => Ok(()),
    }
}

/// The place of one running handler.
struct Slot<F> {
    future: Option<Pin<Box<F>>>,
    /// Number of the request that the handler was given.
    id: u64,
    waker: Waker,
}

impl<F: Future<Output = ()>> Slot<F> {
    fn poll(&mut self) {
        let Some(future) = &mut self.future else { return };
        let mut context = Context::from_waker(&self.waker);
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(())) => {}
            Err(_) => log::error!("a handler panicked"),
        }
        self.end();
    }

    /// Drops the handler.
    fn end(&mut self) {
        let future = self.future.take();
        if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
            log::error!("a handler panicked while it was dropped");
        }
    }
}

/// Puts a handler's future into a free place, to be polled at once.
fn seat<F>(handlers: &mut Vec<Slot<F>>, alarm: &Arc<Alarm>, id: u64, future: Pin<Box<F>>) {
    let index = handlers.iter().position(|slot| slot.future.is_none()).unwrap_or(handlers.len());
    if let Some(slot) = handlers.get_mut(index) {
        slot.future = Some(future);
        slot.id = id;
    } else {
        let waker = Waker::from(Arc::new(Bell { alarm: alarm.clone(), index }));
        handlers.push(Slot { future: Some(future), id, waker });
    }
    // Nobody need be woken for it: this is the task that polls.
    alarm.lock().note(index);
}

/// Which handlers want to be polled, and the task that polls them.
#[derive(Default)]
struct Alarm {
    state: Mutex<AlarmState>,
}

#[derive(Default)]
struct AlarmState {
    ready: Vec<usize>,
    task: Option<Waker>,
}

impl AlarmState {
    fn note(&mut self, index: usize) {
        if !self.ready.contains(&index) {
            self.ready.push(index);
        }
    }
}

impl Alarm {
    /// From now on, `context`'s task is woken when a handler wants to be polled.
    fn listen(&self, context: &Context<'_>) {
        let task = context.waker().clone();
        let old = self.lock().task.replace(task);
        drop(old);
    }

    fn take(&self) -> Vec<usize> {
        std::mem::take(&mut self.lock().ready)
    }

    fn lock(&self) -> MutexGuard<'_, AlarmState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes one handler.
struct Bell {
    alarm: Arc<Alarm>,
    index: usize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.alarm.lock();
        state.note(self.index);
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}
