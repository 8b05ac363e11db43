//! Handlers at work: polled once on the IO thread, then tasks of the user's runtime, and an answer from each, whatever happens to it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures_util::future::abortable;
use tokio::runtime::Handle;

use super::answer::{Incoming, Outgoing};
use super::guard::{Answers, Guard};
use super::routes::MethodRoute;
use crate::codegen::{Answering, Service};
use crate::error::panic_text;
use crate::protocol::dedup::{Execution, Terminal};
use crate::sync::tasks::AbortHandle;

/// What became of a handler that was started.
pub(super) enum Started {
    Answered(Terminal),
    /// To be spawned.
    Running(Task, AbortHandle),
}

/// A handler that was not done when it was first polled.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes them tasks of the user's runtime: by one call of the system, and one task that spawns the others there.
pub(super) fn spawn(tasks: &mut Vec<Task>, runtime: &Handle) {
    match tasks.len() {
        0 => {}
        1 => drop(tasks.pop().map(|task| runtime.spawn(task))),
        _ => {
            let tasks = std::mem::take(tasks);
            runtime.spawn(async move { tasks.into_iter().for_each(|task| drop(tokio::spawn(task))) });
        }
    }
}

/// Starts the handler of a call, a moment after `began`.
pub(super) fn start(
    service: &Arc<dyn Service>,
    method: &mut MethodRoute,
    call: Incoming,
    execution: Execution,
    began: Instant,
    runtime: &Handle,
    answers: &Answers,
) -> Started {
    let name = method.info.name;
    let span = {
        let context = &call.context;
        tracing::debug_span!(
            "handle",
            method = name,
            principal = %context.principal(),
            nonce = %context.nonce(),
            attempt = context.attempt()
        )
    };
    let mut answering = if method.inline() {
        // Within the user's runtime, so that the handler's timers, sockets and tasks are that runtime's.
        let _entered = runtime.enter();
        let first = guarded(name, || {
            let _within = span.enter();
            let mut answering = service.call(call);
            // The waker does nothing: a handler that is not done is polled again at once, as a task.
            match answering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => Ok(answer.0),
                Poll::Pending => Err(answering),
            }
        });
        method.polled(began.elapsed());
        match first {
            Ok(Ok(terminal)) | Err(terminal) => return Started::Answered(terminal),
            Ok(Err(answering)) => answering,
        }
    } else {
        let service = service.clone();
        let call = AssertUnwindSafe(call);
        Box::pin(async move { service.call({ call }.0).await })
    };
    let mut guard = Guard::new(execution, name, answers.clone());
    let task = async move {
        let poll = std::future::poll_fn(|cx| {
            let _within = span.enter();
            poll_guarded(name, answering.as_mut(), cx)
        });
        let terminal = poll.await;
        guard.answered(terminal);
    };
    let (task, abort) = abortable(task);
    Started::Running(
        Box::pin(async move {
            let _ = task.await;
        }),
        abort,
    ) // whoever aborted it knows
}

fn poll_guarded(
    name: &'static str,
    answering: Pin<&mut (dyn Future<Output = Outgoing> + Send)>,
    cx: &mut Context<'_>,
) -> Poll<Terminal> {
    match guarded(name, || answering.poll(cx)) {
        Ok(Poll::Ready(answer)) => Poll::Ready(answer.0),
        Ok(Poll::Pending) => Poll::Pending,
        Err(terminal) => Poll::Ready(terminal),
    }
}

/// A panic is an answer like another: the call failed. The handler's own state is the handler's to mend.
fn guarded<T>(name: &'static str, run: impl FnOnce() -> T) -> Result<T, Terminal> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let why = panic_text(&*panic);
        tracing::error!(method = name, panic = why, "a handler panicked");
        Terminal::Failed(format!("the handler panicked: {why}"))
    })
}

// The compiler proves it where it is used; said here because the first poll and the later ones happen on different threads.
const _: fn(Answering) = |answering| {
    fn sendable(_: impl Send) {}
    sendable(answering);
};
