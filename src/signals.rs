//! The only place that touches signals: the first interrupt or termination asks to drain, the second to stop now.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::consumer::Stop;
use crate::error::{Error, Result};

/// Watches for SIGINT and SIGTERM from now on, and tells `on_first` of the first. Must be called within a runtime.
pub fn watch(on_first: impl FnOnce() + Send + 'static) -> Result<Stop> {
    let stop = Stop::default();
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let (drain, now) = (stop.drain.clone(), stop.now.clone());
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        on_first();
        drain.cancel();
        either(&mut interrupt, &mut terminate).await;
        now.cancel();
    });
    Ok(stop)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::general("signals cannot be watched").because(error))
}
