/* SPDX-License-Identifier: Apache-2.0 */
/* mmds_token.c: sealing and opening, and base64. */
#include "api/mmds_token.h"

#include <bearssl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/random.h>

#define KEY_LEN   32
#define NONCE_LEN 12
#define TAG_LEN   16

/* Random nonces may meet after so many; then there is a new key, and older tokens are void. */
#define TOKENS_A_KEY UINT32_MAX

struct mmds_tokens {
    br_aes_ct64_ctr_keys key;
    uint32_t made;
    size_t bound_len;
    char bound[]; /* what a token is bound to besides the key */
};

/* A token before it is text: no padding, and a multiple of three bytes. */
struct token {
    uint8_t nonce[NONCE_LEN], sealed[sizeof(uint64_t)], tag[TAG_LEN];
};
_Static_assert(sizeof(struct token) * 4 / 3 == MMDS_TOKEN_LEN, "base64 without padding");

/* ---- base64 ---- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode(const struct token *token, char text[MMDS_TOKEN_LEN + 1])
{
    const uint8_t *byte = (const uint8_t *)token;

    for (size_t i = 0; i < sizeof(*token); i += 3) {
        uint32_t group = (uint32_t)(byte[i] << 16 | byte[i + 1] << 8 | byte[i + 2]);

        for (int shift = 18; shift >= 0; shift -= 6)
            *text++ = digits[group >> shift & 63];
    }
    *text = '\0';
}

static bool decode(struct token *token, const char *text, size_t len)
{
    uint8_t *byte = (uint8_t *)token;
    uint32_t group = 0;

    if (len != MMDS_TOKEN_LEN)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char *digit = memchr(digits, text[i], sizeof(digits) - 1);

        if (!digit)
            return false;
        group = group << 6 | (uint32_t)(digit - digits);
        if (i % 4 == 3) {
            *byte++ = (uint8_t)(group >> 16);
            *byte++ = (uint8_t)(group >> 8);
            *byte++ = (uint8_t)group;
        }
    }
    return true;
}

/* ---- keys ---- */

static int get_random(void *out, size_t len)
{
    ssize_t n = getrandom(out, len, GRND_NONBLOCK);

    if (n < 0)
        return -errno;
    return (size_t)n == len ? 0 : -EIO; /* so few bytes come whole or not at all */
}

static int new_key(struct mmds_tokens *tokens)
{
    uint8_t key[KEY_LEN];
    int rc = get_random(key, sizeof(key));

    if (rc == 0)
        br_aes_ct64_ctr_init(&tokens->key, key, sizeof(key));
    explicit_bzero(key, sizeof(key));
    tokens->made = 0;
    return rc;
}

int mmds_tokens_create(struct mmds_tokens **out, const char *id, struct err *e)
{
    static const char prefix[] = "microvmid=";
    size_t len = strlen(prefix) + strlen(id);
    struct mmds_tokens *tokens = malloc(sizeof(*tokens) + len + 1);
    int rc = tokens ? new_key(tokens) : -ENOMEM;

    if (rc) {
        free(tokens);
        return err_set(e, rc, "Cannot make a key for session tokens: %s", err_os(rc));
    }
    stpcpy(stpcpy(tokens->bound, prefix), id);
    tokens->bound_len = len;
    *out = tokens;
    return 0;
}

void mmds_tokens_destroy(struct mmds_tokens *tokens)
{
    if (!tokens)
        return;
    explicit_bzero(&tokens->key, sizeof(tokens->key));
    free(tokens);
}

/* ---- tokens ---- */

static void begin(br_gcm_context *gcm, const struct mmds_tokens *tokens, const struct token *token)
{
    /* BearSSL takes the key's table of routines by a pointer that is not const; it only reads. */
    br_gcm_init(gcm, (const br_block_ctr_class **)(uintptr_t)&tokens->key.vtable, br_ghash_ctmul64);
    br_gcm_reset(gcm, token->nonce, sizeof(token->nonce));
    br_gcm_aad_inject(gcm, tokens->bound, tokens->bound_len);
    br_gcm_flip(gcm);
}

int mmds_token_make(struct mmds_tokens *tokens, uint32_t ttl_s, uint64_t now,
                    char text[MMDS_TOKEN_LEN + 1])
{
    uint64_t end = now + ttl_s * NSEC_PER_SEC;
    struct token token;
    br_gcm_context gcm;
    int rc = tokens->made == TOKENS_A_KEY ? new_key(tokens) : 0;

    if (rc == 0)
        rc = get_random(token.nonce, sizeof(token.nonce));
    if (rc)
        return rc;
    tokens->made++;
    memcpy(token.sealed, &end, sizeof(end));
    begin(&gcm, tokens, &token);
    br_gcm_run(&gcm, 1, token.sealed, sizeof(token.sealed));
    br_gcm_get_tag(&gcm, token.tag);
    encode(&token, text);
    return 0;
}

bool mmds_token_is_valid(const struct mmds_tokens *tokens, const char *text, size_t len,
                         uint64_t now)
{
    struct token token;
    br_gcm_context gcm;
    uint64_t end;

    if (!decode(&token, text, len))
        return false;
    begin(&gcm, tokens, &token);
    br_gcm_run(&gcm, 0, token.sealed, sizeof(token.sealed));
    if (!br_gcm_check_tag(&gcm, token.tag))
        return false;
    memcpy(&end, token.sealed, sizeof(end));
    return end > now;
}
