# SPDX-License-Identifier: Apache-2.0
tide_unit(wal LINK tide_disk)
tide_unit(check LINK tide_disk)
tide_unit(snapshot LINK tide_disk)
tide_unit(snapshot_file LINK tide_disk)
tide_unit(http LINK tide_http Threads::Threads)
tide_unit(disk_fault LINK tide_disk ${CMAKE_DL_LIBS})
target_sources(test_disk_fault PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../lib/disk_fault.c ${CMAKE_CURRENT_LIST_DIR}/../lib/disk_cut.c)
tide_unit(member LINK tide_server)
