//! Group R: what the field has met: public bug reports of other proxies, and attacks that were tried on
//! this one.

mod answers;
mod bounds;
mod bounds_h2;
mod certificates;
mod clients;
mod crowd;
mod der;
mod held;
mod log;
mod messages;
mod mute;
mod names;
mod odd_certificates;
mod operators;
mod origins;
mod requests;
mod secrets;
mod sites;
mod staples;
mod unkeyed;

use crate::Row;

pub fn rows() -> Vec<Row> {
    let all = [
        held::rows(),
        bounds_h2::rows(),
        bounds::rows(),
        mute::rows(),
        answers::rows(),
        certificates::rows(),
        clients::rows(),
        requests::rows(),
        unkeyed::rows(),
        staples::rows(),
        secrets::rows(),
        names::rows(),
        origins::rows(),
        messages::rows(),
        operators::rows(),
        odd_certificates::rows(),
    ];
    all.into_iter().flatten().collect()
}
