//! Threads beside the workers, for what may never wait for a busy core, nor a core for it.

use std::future::Future;

use crate::net::notice;

/// Runs tasks for as long as the process lives, on a thread and a tokio runtime of their own.
/// `tasks` is called there, inside the runtime. If that cannot be had, a warning says `loss`.
pub(super) fn start<F>(
    name: &str,
    loss: &'static str,
    tasks: impl FnOnce() -> Vec<F> + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                let running: Vec<_> = tasks().into_iter().map(tokio::spawn).collect();
                for task in running {
                    let _ = task.await;
                }
            }),
            Err(error) => notice::warn(format_args!("{loss}: {error}")),
        }
    });
    if let Err(error) = thread {
        notice::warn(format_args!("{loss}: no thread for it: {error}"));
    }
}
