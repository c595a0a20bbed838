//! Passes on what a consumer says of itself: to the watchdog that keeps it, and to systemd.

use std::path::Path;
use std::time::{Duration, SystemTime};

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

use crate::consumer::{Meter, Pulse, State};
use crate::output::one_line;
use crate::watchdog::beat;

/// How soon the first sign of life is looked for.
const FIRST_BEAT: Duration = Duration::from_millis(50);

/// The variable that names systemd's socket.
pub(super) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// A sign of life may be this old when systemd is told of it: the loop gives one every second.
const FRESH: Duration = Duration::from_secs(2);

/// Without a watchdog of systemd's there is nothing to be told regularly.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// Passes the loop's signs of life on to whoever keeps this process alive, which has made the file. Without a sign there is no
/// beat.
pub(super) fn keep_beating(path: &Path, pulse: Pulse) {
    let Ok(mut heart) = beat::Heart::open(path) else {
        // Nobody keeps it: the variable is left over from somewhere else.
        return;
    };
    pulse.watch();
    tokio::spawn(async move {
        let mut known = 0;
        loop {
            // The first beat says that it works, and others may wait for that.
            tokio::time::sleep(if known == 0 { FIRST_BEAT } else { beat::EVERY }).await;
            let signs = pulse.signs();
            if signs.count == known {
                continue;
            }
            known = signs.count;
            let (last, at) = signs.last.unzip();
            let since_1970 = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            heart.beat(beat::Beat {
                count: 0,
                pid: std::process::id(),
                done: signs.done,
                failed: signs.failed,
                last,
                last_at: since_1970.map(|time| time.as_millis() as i64),
            });
        }
    });
}

/// Tells systemd when the consumer takes messages for the first time, where it stands, and that it is alive. The task ends with
/// the runtime.
pub(super) fn tell_systemd(pulse: Pulse, meter: &Meter) {
    let Some(mut states) = meter.states() else { return };
    pulse.watch();
    let limit = sd_notify::watchdog_enabled();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(limit.map_or(NEVER, |limit| limit / 2));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let fresh = limit.map_or(FRESH, |limit| (limit / 2).max(FRESH));
        loop {
            let state = states.borrow_and_update().clone();
            say_state(&state);
            loop {
                tokio::select! {
                    changed = states.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    _ = ticks.tick() => {
                        if limit.is_some() && pulse.silent_for().is_some_and(|silence| silence < fresh) {
                            say(&[NotifyState::Watchdog]);
                        }
                    }
                }
            }
        }
    });
}

/// The consumer ends.
pub(super) fn say_stopping() {
    say_state(&State::Stopping);
}

fn say_state(state: &State) {
    match state {
        State::Starting => say(&[NotifyState::Status("connecting")]),
        // Saying it again after a lost connection changes nothing.
        State::Consuming => say(&[NotifyState::Ready, NotifyState::Status("consuming")]),
        State::Away(reason) => say(&[NotifyState::Status(&format!("not connected: {}", one_line(reason)))]),
        State::Stopping => say(&[NotifyState::Stopping, NotifyState::Status("stopping")]),
    }
}

/// Whoever does not listen misses nothing.
fn say(what: &[NotifyState]) {
    let _ = sd_notify::notify(what);
}
