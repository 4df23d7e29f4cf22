# SPDX-License-Identifier: Apache-2.0
tide_unit(net LINK tide_net)
tide_unit(raft_wire LINK tide_raft tide_net)
tide_unit(net_certs LINK tide_net PkgConfig::OPENSSL)
tide_unit(net_strangers LINK tide_net)
tide_unit(tls LINK tide_tls PkgConfig::OPENSSL)
