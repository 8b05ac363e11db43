//! A child that is asked questions and answers each with a line.
//!
//! A question is a line `number text`, its answer a line `number text` with the same number; answers may come in any order. A child begins with `ready text`.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use selfsame_chaos::Result;
use selfsame_chaos::child::{Arguments, Child, Happened};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// How long an answer may take. Far longer than it does: the longest are a crowd's beginning, and 100 MB of events.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child.
pub struct Process {
    pid: i32,
    /// What it said when it was ready.
    pub ready: Arguments,
    line: Line,
}

/// The line to a child. Clones are of the same.
#[derive(Clone)]
pub struct Line {
    questions: mpsc::UnboundedSender<(String, oneshot::Sender<String>)>,
    ended: watch::Receiver<Option<String>>,
}

impl Process {
    /// Starts a child in a role and waits until it is ready. Its standard error is added to the file `errors`.
    pub async fn start(role: &str, arguments: &Arguments, errors: &Path) -> Result<Process> {
        let mut child = Child::start(role, arguments, errors)?;
        let pid = child.pid().as_raw_nonzero().get();
        let said = match timeout(PATIENCE, child.happened()).await?? {
            Happened::Said(said) => said,
            Happened::Ended(status) => return Err(format!("the {role} ended at once: {status}").into()),
        };
        let words = said.strip_prefix("ready").ok_or_else(|| format!("the {role} said {said:?}"))?;
        let ready = Arguments::parse(words.split_whitespace().map(str::to_owned))?;
        let (questions, asked) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(None);
        tokio::spawn(keep(child, asked, end));
        Ok(Process { pid, ready, line: Line { questions, ended } })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The line to it.
    pub fn line(&self) -> &Line {
        &self.line
    }
}

impl Line {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// If the child has ended, or says nothing for too long.
    pub async fn ask(&self, question: &str) -> Result<String> {
        let (answer, answered) = oneshot::channel();
        // If the keeper has gone, so has the answer's sender.
        let _ = self.questions.send((question.to_owned(), answer));
        match timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(self.ended().unwrap_or("it has ended".into()).into()),
            Err(_) => Err(format!("no answer to {question:?} within {PATIENCE:?}").into()),
        }
    }

    /// How the child has ended, if it has.
    pub fn ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }
}

/// Passes questions and answers on until the child has ended or nobody asks any more; then it is killed with the drop.
async fn keep(
    mut child: Child,
    mut asked: mpsc::UnboundedReceiver<(String, oneshot::Sender<String>)>,
    end: watch::Sender<Option<String>>,
) {
    let mut waiting = HashMap::new();
    for number in 0_u64.. {
        let question = loop {
            tokio::select! {
                question = asked.recv() => break question,
                happened = child.happened() => match happened {
                    Ok(Happened::Said(said)) => answer(&mut waiting, &said),
                    Ok(Happened::Ended(status)) => return drop(end.send_replace(Some(format!("it ended: {status}")))),
                    Err(error) => return drop(end.send_replace(Some(error.to_string()))),
                },
            }
        };
        let Some((question, answer)) = question else { return };
        child.tell(&format!("{number} {question}")).await;
        waiting.insert(number, answer);
    }
}

fn answer(waiting: &mut HashMap<u64, oneshot::Sender<String>>, said: &str) {
    let Some((number, text)) = said.split_once(' ') else { return };
    if let Some(answer) = number.parse().ok().and_then(|number: u64| waiting.remove(&number)) {
        let _ = answer.send(text.to_owned()); // whoever asked may have lost patience
    }
}
