//! The exam of `tests/exam/README.md`: a test for each row, named after it.

mod a_requests;
mod b_responses;
mod c_forwarding;
mod d_demand;
mod d_pool;
mod e_cache;
mod e_fills;
mod f_slow;
mod g_upstream;
mod h_overload;
mod i_health;
mod j_reload;
mod j_upgrade;
mod k_admin;
mod k_traces;
mod l_tls;
mod m_http2;
mod o_config;
mod p_process;
mod q_disk;
mod r_field;

use crate::Row;

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(a_requests::rows());
    rows.extend(b_responses::rows());
    rows.extend(c_forwarding::rows());
    rows.extend(d_pool::rows());
    rows.extend(d_demand::rows());
    rows.extend(e_cache::rows());
    rows.extend(e_fills::rows());
    rows.extend(f_slow::rows());
    rows.extend(g_upstream::rows());
    rows.extend(h_overload::rows());
    rows.extend(i_health::rows());
    rows.extend(j_reload::rows());
    rows.extend(j_upgrade::rows());
    rows.extend(k_admin::rows());
    rows.extend(k_traces::rows());
    rows.extend(o_config::rows());
    rows.extend(p_process::rows());
    rows.extend(l_tls::rows());
    rows.extend(m_http2::rows());
    rows.extend(q_disk::rows());
    rows.extend(r_field::rows());
    rows
}
