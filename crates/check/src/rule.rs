//! The rules, each with a name and a line that says it.

macro_rules! rules {
    ($(#[doc = $doc:literal] $rule:ident = $name:literal,)+) => {
        /// One promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $doc] $rule,)+
        }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Rule] = &[$(Rule::$rule,)+];

            /// Its name in tables and reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Rule::$rule => $name,)+
                }
            }

            /// What it says.
            pub fn says(self) -> &'static str {
                match self {
                    $(Rule::$rule => $doc.trim_ascii(),)+
                }
            }
        }
    };
}

rules! {
    /// A nonce of a `once` or `never` call has at most one effect.
    OncePerNonce = "once-per-nonce",
    /// An intention behind a `once` or `never` call has at most one effect, under whatever nonces it was sent.
    OncePerPurpose = "once-per-purpose",
    /// A call that was told Ok has had its effect.
    OkRan = "ok-ran",
    /// A call that was told Yes was begun by a handler.
    YesRan = "yes-ran",
    /// A call that was told No, or that its handler declined, has no effect, then or later.
    NoIsNo = "no-is-no",
    /// In atomic mode, whoever asks again under the same nonce after healing is told what happened.
    UnknownResolved = "unknown-resolved",
    /// Every attempt of a call gets the same answer, at every replica and in every life of it; a reply that is too large to keep excepted.
    SameReply = "same-reply",
    /// An effect is of the very parameters that the caller gave.
    SameBody = "same-body",
    /// No effect starts after the call was refused as stale, expired, or of an unknown session.
    NothingAfterRefusal = "nothing-after-refusal",
    /// A counter lies between the calls that were told Ok and these plus those that were told Unknown.
    CounterWithin = "counter-within",
    /// Every call ends by its deadline, or shortly after healing.
    Ends = "ends",
    /// A call that was made after healing is answered, not given up.
    WellAfterHealing = "well-after-healing",
    /// A caller is told once, of a call that was made.
    ToldOnce = "told-once",
    /// Memory, records and retries stay within their bounds.
    Bounds = "bounds",
}
