#include "scheduler/ledger.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace lorc {

Ledger::Ledger(const KvGeometry& geometry, int64_t exact_headroom_blocks) {
  latent_.block_bytes = geometry.latent_block_bytes;
  latent_.blocks_total = geometry.num_latent_blocks;
  exact_.block_bytes = geometry.exact_block_bytes;
  exact_.blocks_total = geometry.num_exact_blocks;
  exact_.blocks_headroom = exact_headroom_blocks;
  LORC_CHECK(exact_headroom_blocks >= 0 && exact_headroom_blocks <= geometry.num_exact_blocks);
}

bool Ledger::EverFits(BlockCounts need) const {
  return need.latent <= latent_.blocks_total &&
         need.exact <= exact_.blocks_total - exact_.blocks_headroom;
}

bool Ledger::Fits(BlockCounts need) const {
  // Extra blocks go back after the step: for admission they are free.
  return latent_.blocks_written + latent_.blocks_promised + need.latent <= latent_.blocks_total &&
         exact_.blocks_written - exact_extra_ + exact_.blocks_promised + need.exact <=
             exact_.blocks_total - exact_.blocks_headroom;
}

Claim Ledger::Open(BlockCounts need) {
  LORC_CHECK(Fits(need));
  const Claim claim{need, {}};
  Add(claim, 1);
  return claim;
}

void Ledger::Move(Claim& claim, BlockCounts held) {
  if (claim.held == held) return;
  Add(claim, -1);
  claim.held = held;
  Add(claim, 1);
  CheckInvariants();
}

void Ledger::Close(Claim& claim) {
  Add(claim, -1);
  claim = {};
  CheckInvariants();
}

void Ledger::Add(const Claim& claim, int64_t sign) {
  latent_.blocks_written += sign * claim.held.latent;
  latent_.blocks_promised += sign * (claim.need.latent - claim.held.latent);
  exact_.blocks_written += sign * claim.held.exact;
  exact_.blocks_promised += sign * std::max<int64_t>(0, claim.need.exact - claim.held.exact);
  exact_extra_ += sign * std::max<int64_t>(0, claim.held.exact - claim.need.exact);
}

void Ledger::CheckInvariants() const {
  LORC_CHECK(latent_.blocks_written >= 0 && latent_.blocks_promised >= 0);
  LORC_CHECK(exact_.blocks_written >= 0 && exact_.blocks_promised >= 0);
  LORC_CHECK_LE(latent_.blocks_written + latent_.blocks_promised, latent_.blocks_total);
  LORC_CHECK_LE(exact_.blocks_written + exact_.blocks_promised, exact_.blocks_total);
  LORC_CHECK_LE(exact_extra_, exact_.blocks_headroom);
}

}  // namespace lorc
