/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TIDEMARK_VERSION_H
#define TIDEMARK_VERSION_H

/* The one place the version is written; CMake, --version and the API read it from here. */
#define TIDE_VERSION_MAJOR 0
#define TIDE_VERSION_MINOR 1
#define TIDE_VERSION_PATCH 0
#define TIDE_VERSION_STRING "0.1.0"

#endif /* TIDEMARK_VERSION_H */
