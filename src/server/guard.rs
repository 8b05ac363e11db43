//! The answer of a spawned handler on its way to the engine: one, whatever happens to the handler's task. Not what the answer is.

use crate::protocol::dedup::{Execution, Terminal};
use crate::sabotage::planted;
use crate::sync::tasks::mpsc;

/// Where answers of spawned handlers arrive: as many as handlers run at once.
pub(super) type Answers = mpsc::UnboundedSender<(Execution, Terminal)>;

/// Answers for a task that was dropped before it could: its runtime was shut down, or it ran too long.
pub(super) struct Guard {
    answer: Option<(Execution, &'static str)>,
    answers: Answers,
}

impl Guard {
    /// For an execution of the method of this name.
    pub fn new(execution: Execution, name: &'static str, answers: Answers) -> Self {
        Guard { answer: Some((execution, name)), answers }
    }

    /// The handler has answered.
    pub fn answered(&mut self, terminal: Terminal) {
        if let Some((execution, _)) = self.answer.take() {
            // The engine may have ended: then nobody is left to be answered.
            let _ = self.answers.send((execution, terminal));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((_, name)) = self.answer
            && !planted!(DroppedHandlerSilent)
        {
            self.answered(Terminal::Failed(format!("the handler of {name} was dropped before it answered")));
        }
    }
}
