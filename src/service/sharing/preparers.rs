//! Prepares the chunks of large answers on threads of their own.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::service::core::error::ServiceError;

/// Prepares chunks of large answers on separate threads, one for each core: a large answer can use all free cores, and
/// small requests, which run elsewhere, do not wait for it. Clones share one set of permits.
#[derive(Clone, Debug)]
pub struct Preparers(Arc<Semaphore>);

impl Default for Preparers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))))
    }
}

/// A chunk that is being prepared; dropping it abandons the work.
pub type Prepared<T> = AbortOnDropHandle<Result<T, ServiceError>>;

impl Preparers {
    /// Does `work` when a core is free for it.
    pub(super) fn prepare<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Handle) -> Result<T, ServiceError> + Send + 'static,
    ) -> Prepared<T> {
        let permits = Arc::clone(&self.0);
        let prepare = async move {
            let permit = permits.acquire_owned().await.map_err(ServiceError::internal)?;
            let runtime = Handle::current();
            let work = move || {
                // Held to the end of the work, which continues even if it is abandoned meanwhile.
                let _permit = permit;
                work(&runtime)
            };
            spawn_blocking(work).await.map_err(ServiceError::internal)?
        };
        AbortOnDropHandle::new(tokio::spawn(prepare.in_current_span()))
    }
}
