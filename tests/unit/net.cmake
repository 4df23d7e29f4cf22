# SPDX-License-Identifier: Apache-2.0
tide_unit(net LINK tide_net)
