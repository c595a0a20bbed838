//! The only place that touches signals: the first interrupt, termination or hang-up asks to drain, the second to stop now.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::consumer::Stop;
use crate::error::{Error, Result};
use crate::process::is_ignored;

/// Watches for SIGINT, SIGTERM and, unless it is ignored as under nohup, SIGHUP from now on, and tells `on_first` of the first. Must be called within a runtime.
pub fn watch(on_first: impl FnOnce() + Send + 'static) -> Result<Stop> {
    let stop = Stop::default();
    let mut signals = Signals {
        interrupt: listen(SignalKind::interrupt())?,
        terminate: listen(SignalKind::terminate())?,
        hangup: if is_ignored(libc::SIGHUP) {
            None
        } else {
            Some(listen(SignalKind::hangup())?)
        },
    };
    let (drain, now) = (stop.drain.clone(), stop.now.clone());
    tokio::spawn(async move {
        signals.next().await;
        on_first();
        drain.cancel();
        signals.next().await;
        now.cancel();
    });
    Ok(stop)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal has gone.
    hangup: Option<Signal>,
}

impl Signals {
    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::general("signals cannot be watched").because(error))
}
