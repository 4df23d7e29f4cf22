# SPDX-License-Identifier: Apache-2.0
tide_unit(net LINK tide_net)
tide_unit(raft_wire LINK tide_raft tide_net)
