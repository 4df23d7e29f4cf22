# SPDX-License-Identifier: Apache-2.0
# tests/lin: a checker that is wrong finds nothing, or everything.
tide_unit(lin LINK tide_lin)
