//! Calls that wait for a handler: those of one source in the order in which they came, and the sources in turns.
//!
//! In one line for all, a peer that sends a thousand calls at once would make everybody wait for them.

use std::collections::VecDeque;
use std::time::Instant;

use hashbrown::HashMap;

use super::answer::Incoming;
use super::shares::Source;
use crate::protocol::dedup::Execution;

/// A call that waits.
pub(super) struct Waiting {
    pub execution: Execution,
    pub incoming: Incoming,
    pub deadline: Instant,
}

#[derive(Default)]
pub(super) struct Queue {
    /// None is empty.
    lines: HashMap<Source, VecDeque<Waiting>>,
    /// The sources of the lines, each once; the first is next.
    turns: VecDeque<Source>,
    len: usize,
    /// Of the parameters of all calls.
    bytes: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the parameters of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, waiting: Waiting) {
        self.len += 1;
        self.bytes += waiting.incoming.body.len();
        let source = waiting.incoming.source;
        let line = self.lines.entry(source).or_default();
        if line.is_empty() {
            self.turns.push_back(source);
        }
        line.push_back(waiting);
    }

    /// The next call of the next source that may have a handler.
    pub fn pop(&mut self, may: impl Fn(Source) -> bool) -> Option<Waiting> {
        let turn = self.turns.iter().position(|source| may(*source))?;
        let source = self.turns.remove(turn)?;
        self.turns.push_back(source);
        self.take(source, 0)
    }

    /// Takes one out of turn. True if it was there.
    pub fn remove(&mut self, execution: Execution) -> bool {
        self.take_if(|waiting| waiting.execution == execution).is_some()
    }

    /// Takes one whose time is up.
    pub fn pop_overdue(&mut self, now: Instant) -> Option<Execution> {
        self.take_if(|waiting| waiting.deadline <= now).map(|waiting| waiting.execution)
    }

    fn take_if(&mut self, which: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let found =
            |(source, line): (&Source, &VecDeque<Waiting>)| Some((*source, line.iter().position(&which)?));
        let (source, at) = self.lines.iter().find_map(found)?;
        self.take(source, at)
    }

    fn take(&mut self, source: Source, at: usize) -> Option<Waiting> {
        let line = self.lines.get_mut(&source)?;
        let waiting = line.remove(at)?;
        if line.is_empty() {
            self.lines.remove(&source);
            self.turns.retain(|turn| *turn != source);
        }
        self.len -= 1;
        self.bytes -= waiting.incoming.body.len();
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ConnectionId;
    use std::time::Duration;

    fn source(id: u64) -> Source {
        Source::Connection(ConnectionId(id))
    }

    fn queue(calls: &[(u64, u64)], deadline: Instant) -> Queue {
        let mut queue = Queue::default();
        for &(execution, from) in calls {
            let (execution, incoming) = (Execution::test(execution), Incoming::test(source(from)));
            queue.push(Waiting { execution, incoming, deadline });
        }
        queue
    }

    fn rest(mut queue: Queue) -> Vec<Execution> {
        let mut next = || queue.pop(|_| true).map(|waiting| waiting.execution);
        let all = std::iter::from_fn(&mut next).collect();
        assert!(queue.len() == 0 && queue.bytes() == 0 && queue.lines.is_empty() && queue.turns.is_empty());
        all
    }

    #[test]
    fn sources_have_turns_and_calls_of_one_their_order() {
        let queue = queue(&[(1, 1), (2, 1), (3, 1), (4, 2), (5, 3), (6, 2)], Instant::now());
        assert_eq!(rest(queue), [1, 4, 5, 2, 6, 3].map(Execution::test));
    }

    #[test]
    fn a_source_that_may_not_is_passed_over_and_keeps_its_calls() {
        let mut queue = queue(&[(1, 1), (2, 1), (3, 2)], Instant::now());
        let not_one = |turn| turn != source(1);
        assert_eq!(queue.pop(not_one).map(|waiting| waiting.execution), Some(Execution::test(3)));
        assert!(queue.pop(not_one).is_none());
        assert_eq!(rest(queue), [1, 2].map(Execution::test));
    }

    #[test]
    fn calls_leave_out_of_turn_too() {
        let now = Instant::now();
        let mut queue = queue(&[(1, 1), (2, 1), (3, 2)], now + Duration::from_secs(1));
        assert!(queue.remove(Execution::test(2)) && !queue.remove(Execution::test(2)));
        assert_eq!(queue.pop_overdue(now), None);
        assert!(queue.pop_overdue(now + Duration::from_secs(1)).is_some());
        assert_eq!(rest(queue).len(), 1);
    }
}
