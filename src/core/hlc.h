/*
 * hlc.h
 *		Hybrid logical clock stamps: 64 bits, microseconds since 2000-01-01 in
 *		the high 52, a counter in the low 12.
 *
 * Kulkarni, Demirbas et al., "Logical Physical Clocks" (OPODIS 2014), with
 * both parts folded into one integer so that stamps compare as numbers.
 */
#ifndef FERRY_CORE_HLC_H
#define FERRY_CORE_HLC_H

#include "core/port.h"

typedef uint64_t Hlc;

#define HLC_COUNTER_BITS 12
#define HLC_MAX_US ((INT64_C(1) << (64 - HLC_COUNTER_BITS)) - 1)

/* the first stamp of a microsecond; times before 2000 give 0 */
static inline Hlc
hlc_from_us(int64_t us)
{
	if (us <= 0)
		return 0;
	if (us > HLC_MAX_US)
		us = HLC_MAX_US;
	return (Hlc) us << HLC_COUNTER_BITS;
}

static inline int64_t
hlc_to_us(Hlc hlc)
{
	return (int64_t) (hlc >> HLC_COUNTER_BITS);
}

/* the stamp that follows last when the clock shows clock */
static inline Hlc
hlc_next(Hlc last, Hlc clock)
{
	return clock > last ? clock : last + 1;
}

#endif							/* FERRY_CORE_HLC_H */
