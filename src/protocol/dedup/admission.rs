//! The decision about one attempt, and the marks that keep a refusal true. What becomes of an admitted one is in `ending`.

use std::time::Duration;

use super::super::wire::Call;
use super::super::{CallId, Key, PrincipalId, Refusal, Registration, RetryClass, WallTime};
use super::record::{Imprint, Record, Slot, State, Waiter};
use super::session::Mark;
use super::{Admission, Attempt, Dedup, Limits, Now, Shed, reply};
use crate::sabotage::{planted, visit};

impl Dedup {
    /// Decides about one attempt. The order of the steps is the protocol's: the look-up comes before every refusal that says "not
    /// executed", because a copy of a call that ran must not be told so.
    pub fn admit(&mut self, attempt: &Attempt<'_>, shed: Option<Shed>, now: Now) -> Admission {
        let call = attempt.call;
        if call.incarnation != self.identity.incarnation && !planted!(IncarnationIgnored) {
            return self.refuse(call, Refusal::HelloFirst, true, "the call names another incarnation");
        }
        if !self.close(call.registration, attempt.principal, call.acked_below, &[], now.moment) {
            return self.refuse(call, Refusal::SessionUnknown, true, "no such session");
        }
        if let Some(session) = self.sessions.get_mut(&call.registration) {
            session.used = true;
            if let CallId::Sequenced(number) = call.id
                && session.closed.contains(number)
            {
                return self.refuse(call, Refusal::Stale, true, "the client has closed this call");
            }
        }
        if planted!(RefusalBeforeLookUp)
            && let Some(shed) = &shed
        {
            return self.refuse_with(call, shed.clone(), false);
        }
        if let Some(slot) = self.find(call, attempt.principal) {
            return self.again(slot, attempt);
        }
        if let CallId::Keyed(key) = call.id
            && let Some(why) = self.expired(key, now.wall)
            && !planted!(ExpiredMeansNew)
        {
            if key.expiry <= now.wall && !planted!(ExpireWithoutFloor) {
                // What was told once stays true if the clock steps back.
                self.floor = self.floor.max(key.expiry);
            }
            return self.refuse(call, Refusal::Expired, true, why);
        }
        let mark = self.mark(call.registration, call.id);
        if let Some((refusal, retry_after)) = mark.again(call.attempt) {
            visit!("dedup: admit", "marked {refusal:?}");
            let shed = Shed { refusal, retry_after, message: "this attempt was dealt with before".into() };
            return self.refuse_with(call, shed, mark.ambiguous(call.attempt));
        }
        if let Some(shed) = shed.or_else(|| self.full(call, attempt.holds(), now)) {
            let ambiguous = self.leave_mark(call, attempt.holds(), &shed);
            visit!("dedup: admit", "turned away {:?}, marked {}", shed.refusal, !ambiguous);
            return self.refuse_with(call, shed, ambiguous);
        }
        self.start(attempt)
    }

    /// An attempt whose call has a record.
    fn again(&mut self, slot: Slot, attempt: &Attempt<'_>) -> Admission {
        let (call, joins) = (attempt.call, self.limits.joins);
        let Some(record) = self.records.at_mut(slot) else {
            return self.refuse(call, Refusal::InProgress, true, "");
        };
        if let Err(refusal) = Imprint::of(attempt).matches(&record.imprint, record.id)
            && !(planted!(MismatchReplays) && refusal == Refusal::Mismatch)
            && !(planted!(StampNotCompared) && refusal == Refusal::SessionShared)
        {
            return self.refuse(call, refusal, true, "the nonce was used for something else");
        }
        match &mut record.state {
            State::Done(_) if planted!(ReplayRunsAgain) => self.start(attempt),
            State::Running(_) if planted!(RetryRunsAgain) => self.start(attempt),
            State::Done(answer) => {
                let answer = answer.clone();
                self.counters.replayed += 1;
                visit!("dedup: admit", "replays");
                Admission::Reply(reply(call.registration, call.id, call.attempt, true, answer))
            }
            State::Running(running) => {
                if !running.waiters.join(Waiter::new(attempt), joins) {
                    return self.refuse(
                        call,
                        Refusal::InProgress,
                        true,
                        "too many attempts wait for this call",
                    );
                }
                self.counters.joined += 1;
                visit!("dedup: admit", "joins");
                Admission::Joined
            }
        }
    }

    /// Notes that the attempt runs. Every check has been made.
    fn start(&mut self, attempt: &Attempt<'_>) -> Admission {
        let call = attempt.call;
        let class = attempt.holds();
        let kept = class == RetryClass::Once;
        visit!("dedup: admit", "starts {class:?}, keyed {}", matches!(call.id, CallId::Keyed(_)));
        if !kept && matches!(call.id, CallId::Sequenced(_)) && !self.room_for_mark(call.registration, call.id)
        {
            let shed = Shed {
                message: "too many calls are unacknowledged".into(),
                ..Shed::new(Refusal::Overloaded)
            };
            return self.refuse_with(call, shed, true);
        }
        let execution = self.records.insert(Record::new(attempt, kept));
        if let Some(session) = self.sessions.get_mut(&call.registration) {
            session.running += 1;
            let before = session.notes();
            if let CallId::Sequenced(number) = call.id {
                session.recorded += usize::from(kept);
                let entry = session.note(number);
                entry.slot = Some(execution.slot);
                if !kept && !planted!(NeverNotMarked) {
                    // No record will tell that it ran, so the mark does: a copy of this attempt must neither run nor be denied.
                    entry.mark.refuse(call.attempt, Refusal::InProgress, None);
                    entry.mark.taint(call.attempt);
                }
            }
            self.notes += session.notes() - before;
        }
        if let CallId::Keyed(key) = call.id
            && kept
        {
            self.keyed.insert(attempt.principal, key.key, execution.slot);
        }
        self.counters.admitted += 1;
        Admission::Execute(execution)
    }

    /// The record of a call, if it has one.
    fn find(&self, call: &Call, principal: PrincipalId) -> Option<Slot> {
        match call.id {
            CallId::Sequenced(number) => {
                let slot = self.sessions.get(&call.registration)?.entry(number)?.slot?;
                self.records.at(slot)?.kept.then_some(slot)
            }
            CallId::Keyed(key) => self.keyed.find(principal, key.key, &self.records),
        }
    }

    /// Why a keyed nonce is no longer valid, if so.
    fn expired(&self, key: Key, wall: WallTime) -> Option<&'static str> {
        let error = millis(self.limits.clock_error).saturating_mul(2);
        // Where clocks are known to be one, so is the order of birth and issue within a millisecond: a store takes longer to be born.
        let too_early = if error == 0 { 0 } else { error.saturating_add(1) };
        if key.issued.0 < self.identity.born.0.saturating_add(too_early) {
            return Some("the nonce is older than the store");
        }
        (key.expiry <= wall || key.expiry <= self.floor).then_some("the nonce has expired")
    }

    /// Why the machine itself has no room or no time for a new call.
    fn full(&self, call: &Call, class: RetryClass, now: Now) -> Option<Shed> {
        let shed = |refusal, message: &str| Some(Shed { message: message.into(), ..Shed::new(refusal) });
        if call.time_left.is_zero() {
            return shed(Refusal::Deadline, "the time was up when the call arrived");
        }
        let Limits { window, records, session_bytes, bytes, keyed, keyed_bytes, keyed_validity, .. } =
            &self.limits;
        let session = self.sessions.get(&call.registration)?;
        if session.running >= *window as usize {
            return shed(Refusal::Overloaded, "too many calls of the session run");
        }
        if self.records.len() >= records.saturating_add(*keyed) {
            return shed(Refusal::Overloaded, "the table of records is full");
        }
        match call.id {
            CallId::Sequenced(_)
                if session.recorded >= *window as usize || session.bytes >= *session_bytes =>
            {
                shed(Refusal::Overloaded, "too many replies of the session are unacknowledged")
            }
            CallId::Sequenced(_)
                if self.records.len() - self.keyed.len() >= *records || self.records.bytes >= *bytes =>
            {
                shed(Refusal::Overloaded, "the table of records is full")
            }
            CallId::Keyed(_) if class != RetryClass::Once => None,
            CallId::Keyed(key) if key.expiry.0.saturating_sub(now.wall.0) > millis(*keyed_validity) => {
                shed(Refusal::TooLarge, "the nonce is valid for longer than this server keeps records")
            }
            CallId::Keyed(_) if self.keyed.len() >= *keyed || self.records.keyed_bytes >= *keyed_bytes => {
                shed(Refusal::Overloaded, "the table of keyed records is full")
            }
            _ => None,
        }
    }

    pub(super) fn mark(&self, registration: Registration, id: CallId) -> Mark {
        let Some(session) = self.sessions.get(&registration) else { return Mark::NONE };
        match id {
            CallId::Sequenced(number) => session.entry(number).map_or(Mark::NONE, |entry| entry.mark),
            CallId::Keyed(key) => session.keyed_mark(key.key).copied().unwrap_or(Mark::NONE),
        }
    }

    /// Marks the attempt as refused. True if that could not be done, or does not help: then the refusal is ambiguous.
    fn leave_mark(&mut self, call: &Call, class: RetryClass, shed: &Shed) -> bool {
        // No acknowledgement would ever end the mark of a keyed call, and for these classes it is not worth a place until the expiry.
        // And where the store has the record, it may tell of a run that this table does not know.
        let unmarked = matches!(call.id, CallId::Keyed(_)) && (class != RetryClass::Once || self.is_cache());
        if unmarked || !self.room_for_mark(call.registration, call.id) {
            return true;
        }
        if planted!(NoMarkAfterRefusal) {
            return false;
        }
        self.with_mark(call.registration, call.id, |mark| {
            mark.refuse(call.attempt, shed.refusal, shed.retry_after);
            mark.ambiguous(call.attempt)
        })
    }

    /// Marks are bounded by two windows a session, for numbers and keys each, and by twice the records in all. Marks of keys stay for up to a day: numbers must not have to
    /// wait for them.
    pub(super) fn room_for_mark(&self, registration: Registration, id: CallId) -> bool {
        let Some(session) = self.sessions.get(&registration) else { return false };
        let noted = match id {
            CallId::Sequenced(number) => session.entry(number).is_some(),
            CallId::Keyed(key) => session.keyed_mark(key.key).is_some(),
        };
        let Limits { window, records, keyed, .. } = self.limits;
        let in_all = records.saturating_add(keyed).saturating_mul(2);
        noted || session.notes_like(id) < (window as usize).saturating_mul(2) && self.notes < in_all
    }

    /// Changes a mark, a new one if need be. True if the session is gone.
    pub(super) fn with_mark(
        &mut self,
        registration: Registration,
        id: CallId,
        change: impl FnOnce(&mut Mark) -> bool,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&registration) else { return true };
        let before = session.notes();
        let result = match id {
            CallId::Sequenced(number) => change(&mut session.note(number).mark),
            CallId::Keyed(key) => change(session.note_keyed(key.key, key.expiry)),
        };
        self.notes += session.notes() - before;
        result
    }
}

impl Attempt<'_> {
    /// The class that holds: the stricter of the client's and the server's. A copy of a keyed call is fenced by no watermark, so `never` under
    /// a key is held to `once`: its record tells that it ran.
    pub fn holds(&self) -> RetryClass {
        let of = |class| self.call.retry == class || self.class == class;
        let keyed = matches!(self.call.id, CallId::Keyed(_));
        if of(RetryClass::Once) || keyed && of(RetryClass::Never) {
            RetryClass::Once
        } else if of(RetryClass::Never) {
            RetryClass::Never
        } else if of(RetryClass::Idempotent) {
            RetryClass::Idempotent
        } else {
            RetryClass::ReadOnly
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
