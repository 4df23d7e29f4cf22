# SPDX-License-Identifier: Apache-2.0
tide_unit(cut_rank LINK tide_cut)
tide_unit(cut_queue LINK tide_cut)
tide_unit(cut_offer LINK tide_cut)
tide_unit(cut_channel LINK tide_cut)
tide_unit(cut_verdict LINK tide_cut)
