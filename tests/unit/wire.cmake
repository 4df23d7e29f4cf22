# SPDX-License-Identifier: Apache-2.0
tide_unit(base LINK tide_base)
tide_unit(codec LINK tide_wire)
tide_unit(identity LINK tide_wire)
tide_unit(view LINK tide_wire)
tide_unit(secure LINK tide_secure)
