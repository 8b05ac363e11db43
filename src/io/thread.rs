//! A thread of the library's own, on which sockets live.

use std::future::Future;
use std::io;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

/// Runs inside the thread's local set.
type Job = Box<dyn FnOnce() + Send>;

/// A thread with a single-threaded runtime. Dropping it ends the tasks that still run there, and joins it.
///
/// Not a place for handlers: what blocks here stops every socket of the thread.
pub struct IoThread {
    /// Taken when the thread is to end.
    jobs: Option<mpsc::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl IoThread {
    /// Starts one.
    ///
    /// # Errors
    /// The system has no thread, or no descriptors for its reactor.
    pub fn start(name: &str) -> io::Result<IoThread> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(8) // looking up names, and no more
            .build()?;
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, async move {
                while let Some(job) = queue.recv().await {
                    job();
                }
            });
            // Tasks own descriptors of this runtime's reactor, so they go first; a name look-up that hangs is not waited for.
            {
                let _inside = runtime.enter();
                drop(tasks);
            }
            runtime.shutdown_timeout(Duration::ZERO);
        })?;
        Ok(IoThread { jobs: Some(jobs), thread: Some(thread) })
    }

    /// The thread that all dialling sockets of the process share. It never ends: at the end of the process, what a socket has not flushed is lost.
    ///
    /// # Errors
    /// As [`start`](IoThread::start), if this is the first call that got so far.
    pub fn shared() -> io::Result<&'static IoThread> {
        static SHARED: OnceLock<IoThread> = OnceLock::new();
        if let Some(shared) = SHARED.get() {
            return Ok(shared);
        }
        let started = IoThread::start("selfsame-dial")?;
        Ok(SHARED.get_or_init(|| started)) // the loser of a race drops its thread
    }

    /// Runs what `make` makes on this thread. The future need not be `Send`, and goes on if the receiver is dropped.
    ///
    /// The receiver errs if the task panicked or the thread ended before the task did.
    pub fn run<F, Fut, T>(&self, make: F) -> oneshot::Receiver<T>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (done, receiver) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Awaited where it was made: a future that is moved into another one has room there twice.
            let task = Box::pin(make());
            spawn_local(async move {
                let _ = done.send(task.await); // nobody need wait for it
            });
        });
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job); // if the thread has ended, the receiver errs
        }
        receiver
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else { return };
        // Dropped by a task of its own it cannot wait for itself; it ends on its own then.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join(); // a panic there was reported by whoever awaited the task
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[tokio::test]
    async fn runs_a_future_that_is_not_send_on_its_own_thread() {
        let io = IoThread::start("test-io").unwrap();
        let name = io.run(|| async {
            let local = Rc::new(5);
            tokio::task::yield_now().await;
            (std::thread::current().name().map(str::to_owned), *local)
        });
        assert_eq!(name.await.unwrap(), (Some("test-io".to_owned()), 5));
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_alone() {
        let io = IoThread::start("test-io").unwrap();
        let panicked = io.run(|| async { panic!("on purpose") });
        assert!(panicked.await.is_err());
        assert_eq!(io.run(|| async { 7 }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_drop_ends_tasks_that_never_would() {
        let io = IoThread::start("test-io").unwrap();
        let endless = io.run(std::future::pending::<()>);
        assert_eq!(io.run(|| async { 7 }).await.unwrap(), 7);
        drop(io);
        assert!(endless.await.is_err());
    }

    #[tokio::test]
    async fn may_be_dropped_by_its_own_task() {
        let io = IoThread::start("test-io").unwrap();
        let (give, take) = oneshot::channel::<IoThread>();
        let dropped = io.run(|| async move { drop(take.await) });
        give.send(io).ok().unwrap();
        // Either the task ended first, or the thread did.
        let _ = dropped.await;
    }
}
