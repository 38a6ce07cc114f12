//! Where requests come from: the country of an address, as decisions ask for it and events record it.

use std::{net::IpAddr, sync::Arc};

use crate::{domain::access::geography::Geography, service::core::error::ServiceError};

use super::Core;

impl Core {
    /// What decisions ask of where a request from `address` comes from.
    pub fn geography(&self, address: IpAddr) -> Geography {
        Geography { mode: self.geo_mode, country: self.countries.as_ref().and_then(|countries| countries.of(address)) }
    }

    /// Reads the country file again if it has changed. Until one is there that can be used, the last good one goes on.
    pub async fn watch_countries(&self) -> Result<(), ServiceError> {
        let Some(countries) = self.countries.clone() else { return Ok(()) };
        let looking = Arc::clone(&countries);
        let looked = tokio::task::spawn_blocking(move || looking.read_again()).await.map_err(ServiceError::internal)?;
        self.metrics.country_file_looked_at(looked.is_ok(), countries.made_at().map(|at| at.timestamp()));
        looked.map_err(ServiceError::internal)
    }
}
