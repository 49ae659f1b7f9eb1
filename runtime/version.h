/* SPDX-License-Identifier: MIT */
#ifndef EXED_VERSION_H
#define EXED_VERSION_H

#define EXED_VERSION "0.1.0"

#endif
