/* curl_api.c — see curl_api.h. */
#include "image/oci/curl_api.h"

#include <dlfcn.h>
#include <errno.h>

#define LIBRARY "libcurl.so.4" /* its name since 2006; the package is libcurl4 */

int curl_api_open(struct curl_api *ret_api, struct err *err)
{
    *ret_api = (struct curl_api){.library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL)};
    if (!ret_api->library) {
        return err_set(err, -ELIBACC, "images of registries need libcurl4: %s", dlerror());
    }
#define X(type, name, args)                                                 \
    *(void **)(&ret_api->name) = dlsym(ret_api->library, "curl_" #name);    \
    if (!ret_api->name) {                                                   \
        curl_api_close(ret_api);                                            \
        return err_set(err, -ELIBACC, "%s has no curl_%s", LIBRARY, #name); \
    }
    CURL_API_LIST(X)
#undef X
    return 0;
}

void curl_api_close(struct curl_api *api)
{
    if (api->library) {
        (void)dlclose(api->library);
    }
    *api = (struct curl_api){0};
}
