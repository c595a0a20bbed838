//! What a script answered, and what that means: pure, and bounded however much it prints.

use std::time::SystemTime;

use crate::consumer::handler::{Failure, Outcome, Report};
use crate::process::{Aside, Captured, Stream};
use crate::wire::fastcgi::{End, Kind, Protocol};
use crate::wire::status::{Meaning, meaning, retry_after};

/// The most that the headers of an answer may take.
const HEAD_LIMIT: usize = 64 * 1024;

/// The most that is taken of a reason that a script gives.
const REASON_LIMIT: usize = 500;

/// The answers of php-fpm itself when it cannot run the script: the consumer's configuration is wrong, or a deploy is under way.
const NOT_RUN: &[(u16, &str)] = &[
    (404, "File not found.\n"),
    (404, "No input file specified.\n"),
    (403, "Access denied.\n"),
];

/// An answer as it comes in.
pub(super) struct Answer {
    head: Vec<u8>,
    head_is_whole: bool,
    /// The body; a little of it is always kept, to know what php-fpm itself says.
    body: Captured,
    errors: Captured,
    aside: Aside,
    /// How much of the body and of the errors is wanted.
    keep: usize,
}

/// So much of a body is kept even if nobody wants it.
const KEPT_ANYWAY: usize = 64;

impl Answer {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            head: Vec::new(),
            head_is_whole: false,
            body: Captured::default(),
            errors: Captured::default(),
            aside: Aside::default(),
            keep,
        }
    }

    /// Takes in a piece of a record's content; says why the answer is none.
    pub(super) fn feed(&mut self, kind: Kind, piece: &[u8], sink: &mut dyn FnMut(Stream, &str)) -> Result<(), String> {
        match kind {
            Kind::Stdout if self.head_is_whole => self.body.feed(piece, self.keep.max(KEPT_ANYWAY)),
            Kind::Stdout => return self.feed_head(piece),
            Kind::Stderr => {
                self.errors.feed(piece, self.keep);
                self.aside.feed(piece, &mut |line| sink(Stream::Stderr, line));
            }
            Kind::End => {}
        }
        Ok(())
    }

    fn feed_head(&mut self, piece: &[u8]) -> Result<(), String> {
        // The end may have begun in what came before.
        let from = self.head.len().saturating_sub(3);
        let before = self.head.len();
        self.head
            .extend_from_slice(&piece[..piece.len().min(HEAD_LIMIT + 4 - before.min(HEAD_LIMIT + 4))]);
        let Some(end) = end_of_head(&self.head, from) else {
            if self.head.len() > HEAD_LIMIT {
                return Err(format!("no end of its headers within {} KiB", HEAD_LIMIT / 1024));
            }
            return Ok(());
        };
        self.head_is_whole = true;
        self.head.truncate(end);
        self.body.feed(&piece[end - before..], self.keep.max(KEPT_ANYWAY));
        Ok(())
    }

    /// The request has ended: what came of it, or why its answer is none.
    pub(super) fn judge(mut self, end: End, now: SystemTime, sink: &mut dyn FnMut(Stream, &str)) -> Outcome {
        self.aside.finish(&mut |line| sink(Stream::Stderr, line));
        let refused = match end.protocol {
            Protocol::Complete => None,
            Protocol::Overloaded => Some("php-fpm is overloaded".to_owned()),
            Protocol::CannotMultiplex => Some("php-fpm takes no second request on a connection".to_owned()),
            Protocol::UnknownRole => Some("php-fpm answers no requests of this kind (unknown role)".to_owned()),
            Protocol::Unknown(status) => Some(format!("php-fpm ended the request with the protocol status {status}")),
        };
        let head = if self.head_is_whole {
            Head::parse(&self.head)
        } else {
            Err("no end of its headers".to_owned())
        };
        let not_run = head.as_ref().ok().and_then(|head| {
            NOT_RUN.iter().find(|(status, body)| {
                head.status == *status && head.outcome.is_none() && self.body.bytes == body.as_bytes()
            })
        });
        if let Some((status, body)) = not_run.filter(|_| refused.is_none()) {
            let errors = self.aside.tail();
            let errors = errors
                .lines()
                .last()
                .map(|line| format!(", {line}"))
                .unwrap_or_default();
            return Outcome::WorkerFault(format!("php-fpm cannot run it ({status} {}{errors})", body.trim_end()));
        }
        let report = self.report();
        let retry = |reason, report| {
            Outcome::Retry(Failure {
                reason,
                report,
                ..Failure::default()
            })
        };
        if let Some(reason) = refused {
            return retry(reason, report);
        }
        let head = match head {
            Ok(head) => head,
            Err(wrong) => return retry(format!("the script's answer is none: {wrong}"), report),
        };
        let status = head.status;
        let reason = head.reason.unwrap_or_else(|| format!("status {status}"));
        if end.status != 0 {
            return retry(format!("the script ended with the status {}", end.status), report);
        }
        let verdict = head.outcome.unwrap_or_else(|| meaning(status));
        let failure = |report| Failure {
            reason,
            by_signal: false,
            retry_after: head.retry_after.and_then(|value| retry_after(&value, now)),
            report,
        };
        match verdict {
            Meaning::Done => Outcome::Done(report),
            Meaning::Retry => Outcome::Retry(failure(report)),
            Meaning::Reject => Outcome::Reject(failure(report)),
        }
    }

    /// The answer broke off: what came of it all the same.
    pub(super) fn broken(mut self, sink: &mut dyn FnMut(Stream, &str)) -> Report {
        self.aside.finish(&mut |line| sink(Stream::Stderr, line));
        self.report()
    }

    fn report(self) -> Report {
        let mut report = Report {
            stdout: self.body.bytes,
            stdout_truncated: self.body.truncated,
            stderr: self.errors.bytes,
            stderr_truncated: self.errors.truncated,
            stderr_tail: self.aside.tail(),
            ..Report::default()
        };
        if self.keep == 0 {
            report.stdout.clear();
            report.stdout_truncated = false;
        }
        report
    }
}

/// Where the body begins: behind the first empty line. Looked for from here on.
fn end_of_head(head: &[u8], from: usize) -> Option<usize> {
    if from == 0 {
        // A script may have no headers at all.
        match head {
            [b'\n', ..] => return Some(1),
            [b'\r', b'\n', ..] => return Some(2),
            _ => {}
        }
    }
    (from..head.len()).find_map(|at| match &head[at..] {
        [b'\n', b'\n', ..] => Some(at + 2),
        [b'\n', b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// What an answer's headers say that matters here.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    outcome: Option<Meaning>,
    reason: Option<String>,
    retry_after: Option<String>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut head = Self {
            status: 200,
            outcome: None,
            reason: None,
            retry_after: None,
        };
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines().filter(|line| !line.is_empty()) {
            let named = line.split_once(':').filter(|(name, _)| is_name(name));
            let Some((name, value)) = named else {
                return Err("what stands in front of its body are no headers".to_owned());
            };
            let value = value.trim();
            if name.eq_ignore_ascii_case("Status") {
                let code = value.split(' ').next().unwrap_or_default();
                head.status = code
                    .parse()
                    .ok()
                    .filter(|status| code.len() == 3 && *status >= 100)
                    .ok_or_else(|| format!("its status is {}", shown(value)))?;
            } else if name.eq_ignore_ascii_case("X-Qctl-Outcome") {
                let words = [
                    ("done", Meaning::Done),
                    ("retry", Meaning::Retry),
                    ("reject", Meaning::Reject),
                ];
                let known = words.iter().find(|(word, _)| value.eq_ignore_ascii_case(word));
                let verdict = known
                    .ok_or_else(|| format!("its X-Qctl-Outcome is {}, not done, retry or reject", shown(value)))?;
                head.outcome = Some(verdict.1);
            } else if name.eq_ignore_ascii_case("X-Qctl-Reason") {
                head.reason = Some(clean(value)).filter(|reason| !reason.is_empty());
            } else if name.eq_ignore_ascii_case("Retry-After") {
                head.retry_after = Some(value.to_owned());
            }
        }
        Ok(head)
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What a script says, short and without what could steer a terminal.
fn clean(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(REASON_LIMIT)];
    text.replace(char::is_control, " ")
}

fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("{short:?}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::SystemTime;

    use super::{Answer, HEAD_LIMIT, KEPT_ANYWAY, Outcome};
    use crate::consumer::handler::Failure;
    use crate::wire::fastcgi::{End, Kind, Protocol};

    const WELL: End = End {
        status: 0,
        protocol: Protocol::Complete,
    };

    fn outcome(end: End, pieces: &[&[u8]]) -> Outcome {
        let mut answer = Answer::new(1000);
        for piece in pieces {
            if let Err(wrong) = answer.feed(Kind::Stdout, piece, &mut |_, _| {}) {
                return Outcome::WorkerFault(format!("refused: {wrong}"));
            }
        }
        answer
            .feed(Kind::Stderr, b"PHP message: one\n", &mut |_, _| {})
            .unwrap();
        answer.judge(end, SystemTime::UNIX_EPOCH, &mut |_, _| {})
    }

    fn told(end: End, pieces: &[&[u8]]) -> String {
        let failed = |word: &str, failure: &Failure| {
            assert_eq!(failure.report.stderr_tail, "PHP message: one");
            let after = failure.retry_after.map(|after| format!(" after {after:?}"));
            format!("{word} {}{}", failure.reason, after.unwrap_or_default())
        };
        match outcome(end, pieces) {
            Outcome::Done(report) => format!("done {}", String::from_utf8(report.stdout).unwrap()),
            Outcome::Retry(failure) => failed("retry", &failure),
            Outcome::Reject(failure) => failed("reject", &failure),
            Outcome::WorkerFault(reason) => format!("fault {reason}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_status_decides_unless_the_script_says_more() {
        for (answer, expected) in [
            ("Content-type: text/html\r\n\r\nhello", "done hello"),
            ("\r\nhello", "done hello"),
            ("\nhello", "done hello"),
            ("Status: 204 No Content\r\n\r\n", "done "),
            ("A: b\nStatus: 201\n\nhello", "done hello"),
            ("Status: 500 Internal Server Error\r\n\r\n", "retry status 500"),
            ("Status: 429\r\nRetry-After: 7\r\n\r\n", "retry status 429 after 7s"),
            ("Status: 408\r\n\r\n", "retry status 408"),
            ("Status: 425\r\n\r\n", "retry status 425"),
            ("Status: 422 No\r\n\r\n", "reject status 422"),
            ("Status: 404\r\n\r\nno such order", "reject status 404"),
            ("Status: 302\r\nLocation: /login\r\n\r\n", "reject status 302"),
            (
                "x-qctl-outcome: Retry\r\nx-qctl-reason: bank holiday\r\n\r\n",
                "retry bank holiday",
            ),
            ("Status: 500\r\nX-Qctl-Outcome: reject\r\n\r\n", "reject status 500"),
            ("Status: 404\r\nX-Qctl-Outcome: done\r\n\r\n", "done "),
            (
                "Status: 404\r\nX-Qctl-Outcome: reject\r\n\r\nFile not found.\n",
                "reject status 404",
            ),
            (
                "Status: 404\r\n\r\nFile not found.\n",
                "fault php-fpm cannot run it (404 File not found., PHP message: one)",
            ),
            (
                "Status: 403\r\n\r\nAccess denied.\n",
                "fault php-fpm cannot run it (403 Access denied., PHP message: one)",
            ),
        ] {
            assert_eq!(told(WELL, &[answer.as_bytes()]), expected, "{answer:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_tried_again() {
        for (answer, expected) in [
            ("", "no end of its headers"),
            ("Status: 200\r\n", "no end of its headers"),
            ("<html>\n\n", "no headers"),
            ("Status: 20\r\n\r\n", "its status is \"20\""),
            ("Status: 0200\r\n\r\n", "its status is \"0200\""),
            ("Status: \r\n\r\n", "its status is \"\""),
            ("X-Qctl-Outcome: maybe\r\n\r\n", "its X-Qctl-Outcome is \"maybe\""),
        ] {
            let told = told(WELL, &[answer.as_bytes()]);
            assert!(
                told.starts_with("retry the script's answer is none: "),
                "{answer:?}: {told}"
            );
            assert!(told.contains(expected), "{answer:?}: {told}");
        }
        let ended = |status, protocol| told(End { status, protocol }, &[b"\n"]);
        assert_eq!(
            ended(255, Protocol::Complete),
            "retry the script ended with the status 255"
        );
        assert_eq!(ended(0, Protocol::Overloaded), "retry php-fpm is overloaded");
        assert!(ended(0, Protocol::Unknown(9)).starts_with("retry "));
    }

    #[test]
    fn an_answer_may_come_in_any_pieces() {
        let answer = b"Status: 200\r\nA: b\r\n\r\n\r\nbody\n\n";
        let whole = told(WELL, &[answer]);
        assert_eq!(whole, "done \r\nbody\n\n");
        for cut in 0..answer.len() {
            assert_eq!(told(WELL, &[&answer[..cut], &answer[cut..]]), whole, "{cut}");
        }
        let bytes: Vec<&[u8]> = answer.chunks(1).collect();
        assert_eq!(told(WELL, &bytes), whole);
    }

    #[test]
    fn much_is_kept_within_its_limits() {
        let piece = vec![b'x'; 60_000];
        let refused = told(WELL, &[&piece, &piece]);
        assert!(refused.contains("no end of its headers within 64 KiB"), "{refused}");
        let just = [b"A: ".to_vec(), vec![b'x'; HEAD_LIMIT - 5], b"\n\n".to_vec()].concat();
        assert_eq!(told(WELL, &[&just]), "done ");
        let Outcome::Done(report) = outcome(WELL, &[b"\n", &piece, &piece]) else {
            panic!("not done")
        };
        assert_eq!((report.stdout.len(), report.stdout_truncated), (1000, true));
        let mut unwanted = Answer::new(0);
        unwanted.feed(Kind::Stdout, b"\n", &mut |_, _| {}).unwrap();
        unwanted.feed(Kind::Stdout, &piece, &mut |_, _| {}).unwrap();
        assert_eq!(unwanted.body.bytes.len(), KEPT_ANYWAY);
        let report = unwanted.report();
        assert_eq!((report.stdout.len(), report.stdout_truncated), (0, false));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_judged(pieces in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..40), 0..6)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = outcome(WELL, &pieces);
        }
    }
}
