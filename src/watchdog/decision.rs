//! What is to be done about an instance: a pure decision.

use super::record::Record;
use super::site::Wanted;

/// What is to be done about an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Nobody keeps it: start a keeper.
    Keep,
    /// Nobody keeps it and nobody is to, but a keeper that died may have left something: end that.
    Clear,
    /// It runs with another configuration: start a successor of its keeper.
    Replace(&'static str),
    /// It is not to run: its keeper is asked to end.
    Stop(&'static str),
    /// Its files are of no use any more.
    Forget,
}

/// What is known of an instance when it is decided about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// It is configured.
    pub(super) wanted: Option<&'a Wanted>,
    /// The operator wants it stopped.
    pub(super) stopped: bool,
    /// Somebody has its lock.
    pub(super) kept: bool,
    /// It may have left something that runs.
    pub(super) unclean: bool,
    pub(super) record: Option<&'a Record>,
}

/// Decides about one instance.
pub(super) fn decide(known: Known<'_>) -> Action {
    let runs_otherwise = |wanted: &Wanted| known.record.is_some_and(|record| wanted.is_other_than(&record.digest));
    match (known.wanted, known.kept) {
        (Some(_), false) if !known.stopped => Action::Keep,
        (Some(wanted), true) if !known.stopped && runs_otherwise(wanted) => {
            Action::Replace("its configuration has changed")
        }
        (Some(_), true) if !known.stopped => Action::Nothing,
        (Some(_), true) => Action::Stop("the operator wants it stopped"),
        (None, true) => Action::Stop("it is configured no more"),
        (_, false) if known.unclean => Action::Clear,
        (Some(_), false) => Action::Nothing,
        (None, false) => Action::Forget,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::watchdog::plan::Spec;
    use crate::watchdog::record::tests::record;

    fn wanted(digest: &str) -> Wanted {
        Wanted {
            spec: Spec::of_nothing(record().id),
            digest: digest.to_owned(),
        }
    }

    /// Each case of: configured, stopped by the operator, kept, left something.
    #[test]
    fn every_case_is_decided() {
        let (same, record) = (wanted("d"), record());
        let case = |configured: bool, stopped, kept, unclean| {
            decide(Known {
                wanted: configured.then_some(&same),
                stopped,
                kept,
                unclean,
                record: Some(&record),
            })
        };
        for unclean in [false, true] {
            // What it has left is the new keeper's to end.
            assert_eq!(case(true, false, false, unclean), Action::Keep);
            assert_eq!(case(true, false, true, unclean), Action::Nothing);
            assert!(matches!(case(true, true, true, unclean), Action::Stop(_)));
            assert!(matches!(case(false, false, true, unclean), Action::Stop(_)));
        }
        assert_eq!(case(true, true, false, false), Action::Nothing);
        assert_eq!(case(true, true, false, true), Action::Clear);
        assert_eq!(case(false, false, false, true), Action::Clear);
        assert_eq!(case(false, false, false, false), Action::Forget);
    }

    #[test]
    fn what_runs_otherwise_is_replaced_if_that_can_be_known() {
        let record = record();
        let about = |wanted: &Wanted, record| {
            decide(Known {
                wanted: Some(wanted),
                stopped: false,
                kept: true,
                unclean: false,
                record,
            })
        };
        assert!(matches!(about(&wanted("other"), Some(&record)), Action::Replace(_)));
        assert_eq!(about(&wanted("d"), Some(&record)), Action::Nothing);
        // Nobody could read the key, or the record.
        assert_eq!(about(&wanted(""), Some(&record)), Action::Nothing);
        assert_eq!(about(&wanted("other"), None), Action::Nothing);
    }
}
