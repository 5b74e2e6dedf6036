//! Waits for the final head of an answer, and passes interim ones on.

use super::state::Exchange;
use super::target::TryTarget;
use crate::base::clock::Moment;
use crate::base::error::{Kind, Result};
use crate::base::limits::INTERIM_MAX;
use crate::message::upgrade;
use crate::protocol::line::Line;

/// Takes heads until the final one, which is in `work.response` then; 101 is one if it was asked for.
///
/// # Errors
/// Why there was none; the client is gone.
pub async fn final_head(
    ex: &mut Exchange<'_>,
    line: &mut Line,
    target: &TryTarget<'_>,
) -> Result<()> {
    let (shard, asked) = (ex.shard, ex.work.request.method);
    let mut interim = 0;
    loop {
        let heard = line.head(&shard.buffers, asked, &mut ex.work.response).await;
        if heard == Err(Kind::FirstByteTimeout) && shard.now() >= target.total_by {
            return Err(Kind::TotalTimeout);
        }
        heard?;
        let response = &ex.work.response;
        if !response.is_interim() {
            line.answer_by(Moment::NEVER);
            return Ok(());
        }
        if response.status == 101 {
            // RFC 9110 section 7.8: only a protocol that was asked for.
            let is_granted =
                target.upgrades && upgrade::is_granted(ex.work.request.upgrade(), response);
            return if is_granted { Ok(()) } else { Err(Kind::UpstreamUpgrade) };
        }
        interim += 1;
        if interim > INTERIM_MAX {
            return Err(Kind::UpstreamInterim);
        }
        ex.reply.set_stall(ex.stall());
        ex.reply.interim(&ex.work.response).await?;
    }
}
