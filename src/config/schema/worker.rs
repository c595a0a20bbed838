//! `workers:`.

use serde_json::{Value, json};

use super::shapes::{
    choice, command_line, count, duration, key, limit_duration, name, object, one_or_many, required_any, size, text,
    texts, variable,
};

pub(super) fn worker() -> Value {
    let log = object(
        "Where what it prints goes.",
        &[
            key(
                &["folder", "dir"],
                "The folder. Default: watchdog/log beside the state.",
                text(),
            ),
            key(
                &["size"],
                "A log of this size is put aside; 0: never. Default: 10M.",
                size(),
            ),
            key(
                &["keep"],
                "So many of those are kept. Default: 5.",
                count(0, Some(1000)),
            ),
        ],
    );
    let backoff = object(
        "How long to wait after failures; the wait doubles.",
        &[
            key(&["min"], "After the first. Default: 1s.", duration()),
            key(&["max"], "At most. Default: 1m.", duration()),
        ],
    );
    let limit = json!({ "anyOf": [size(), { "enum": ["none", "unlimited"] }] });
    let worker = object(
        "A consumer or any program, kept alive.",
        &[
            key(&["consumer", "queue_name"], "The consumer to run.", name()),
            key(
                &["run"],
                "Instead of a consumer: a program and its arguments. A relative path starts at this file's folder.",
                command_line(),
            ),
            key(
                &["options"],
                "The consumer's options, as `qctl consumer` has them: `messages: 1000`, `l: 256`, `until-empty: true`.",
                json!({ "type": ["object", "null"], "additionalProperties": { "type": ["string", "number", "boolean", "null"] } }),
            ),
            key(&["instances"], "So many of it. Default: 1.", count(1, Some(1000))),
            key(
                &["env"],
                "Further variables of its environment.",
                json!({ "type": ["object", "null"], "additionalProperties": text() }),
            ),
            key(&["cwd"], "The folder that it runs in. Default: this file's.", text()),
            key(
                &["user"],
                "Whom it runs as; only root can say so. Default: the owner of the state.",
                text(),
            ),
            key(&["group"], "Its group. Default: the user's.", text()),
            key(
                &["nice"],
                "How it yields to others, -20 to 19.",
                json!({ "anyOf": [{ "type": "integer", "minimum": -20, "maximum": 19 }, variable()] }),
            ),
            key(
                &["umask"],
                "The permissions that its new files do not have, in octal.",
                json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "pattern": r"^(0o)?[0-7]{1,4}$|\$\{" }] }),
            ),
            key(
                &["limits", "rlimits"],
                "Limits of the system's: nofile, as, core, cpu, data, fsize, memlock, nproc, stack.",
                json!({ "type": ["object", "null"], "additionalProperties": limit }),
            ),
            key(&["log"], "Where what it prints goes.", log),
            key(
                &["stop_signal"],
                "The signal that asks it to end. Default: TERM.",
                choice(&["TERM", "INT", "QUIT", "HUP", "USR1", "USR2"]),
            ),
            key(
                &["stop_timeout"],
                "How long it may take to end, then it is killed; none: as long as it likes. Default: a consumer's longest call and 10s; 30s for programs.",
                limit_duration(),
            ),
            key(
                &["heartbeat"],
                "It must give a sign of life this often, or it is killed and started anew: a program touches the file QCTL_HEARTBEAT. Default: 1m for consumers, none for programs.",
                limit_duration(),
            ),
            key(&["backoff"], "How long to wait after failures.", backoff),
            key(
                &["restart_on"],
                "Files or links of which a change starts it anew, such as a deploy's link.",
                texts(),
            ),
            key(
                &["expected_exit_codes"],
                "The exit codes of one that has ended because it was to. Default: 0.",
                one_or_many(&count(0, Some(255))),
            ),
        ],
    );
    required_any(worker, &["consumer", "queue_name", "run"])
}
