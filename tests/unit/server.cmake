# SPDX-License-Identifier: Apache-2.0
tide_unit(wal LINK tide_disk)
tide_unit(snapshot LINK tide_disk)
tide_unit(snapshot_file LINK tide_disk)
tide_unit(http LINK tide_http Threads::Threads)
