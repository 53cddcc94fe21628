/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmds_token.h owns the session tokens of the metadata service's second version: a token says when
 * it ends, sealed with AES-256-GCM under a random key of this process and bound to this instance's
 * id, so that nothing need be remembered of it, and no other instance, process or restored clone
 * takes it. As text it is 48 characters of base64: nonce, sealed time, tag.
 *
 * The cipher is BearSSL's: constant-time code without allocations, initialisation or system calls,
 * so that it never blocks the loop. It adds 8 KiB to a static program; the same from nettle adds
 * 44, and a constructor that every start would pay for; from libcrypto 4 MiB. The kernel's AF_ALG
 * is not everywhere (CONFIG_CRYPTO_USER_API_AEAD), may load modules when first used, and takes
 * several system calls a token, which a jail would have to allow.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_API_MMDS_TOKEN_H
#define MAYFLY_API_MMDS_TOKEN_H

#include "vmm/base/err.h"

#define MMDS_TOKEN_LEN     48
#define MMDS_TOKEN_TTL_MIN 1
#define MMDS_TOKEN_TTL_MAX 21600 /* seconds: six hours */

struct mmds_tokens;

/* Takes a key from getrandom, without waiting for the host's pool. `id` is copied. -EAGAIN, -ENOSYS
 * and the like; -ENOMEM. */
int mmds_tokens_create(struct mmds_tokens **out, const char *id, struct err *e) __must_check;
/* Wipes the key. NULL is accepted. */
void mmds_tokens_destroy(struct mmds_tokens *tokens);

/* Makes a token that ends ttl_s seconds (in range: the caller has looked) after `now` (now_ns).
 * 0, or -errno where the host has no random bytes at once. */
int mmds_token_make(struct mmds_tokens *tokens, uint32_t ttl_s, uint64_t now,
                    char text[MMDS_TOKEN_LEN + 1]) __must_check;

/* Whether a text is a token of ours that has not ended. */
bool mmds_token_is_valid(const struct mmds_tokens *tokens, const char *text, size_t len,
                         uint64_t now);

#endif
