/* An addon for leaks.mjs: a function that tells how many bytes malloc has given out and has not got back. Node's headers are
   not wherever Node is, so what is needed of them stands here. */
#include <malloc.h>
#include <stddef.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
typedef napi_value (*napi_callback) (napi_env env, napi_callback_info info);
int napi_create_double (napi_env env, double value, napi_value *result);
int napi_create_function (napi_env env, const char *name, size_t length, napi_callback call, void *data, napi_value *result);

static napi_value in_use (napi_env env, napi_callback_info info)
{
    struct mallinfo2 now = mallinfo2 ();
    napi_value bytes = NULL;
    (void) info;
    napi_create_double (env, (double) (now.uordblks + now.hblkhd), &bytes);
    return bytes;
}

napi_value napi_register_module_v1 (napi_env env, napi_value exports)
{
    napi_value function = exports;
    napi_create_function (env, "inUse", sizeof "inUse" - 1, in_use, NULL, &function);
    return function;
}
