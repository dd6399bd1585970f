/* Does mbedTLS read a trust file with its CRLs, and believe a certificate by them?
 *   mbedtls AUTHORITIES CRLS CERTIFICATE
 * Prints the flags of mbedtls_x509_crt_verify, 0 for "believed". Exit 2: a file cannot be read, with the reason. */
#include <mbedtls/x509_crl.h>
#include <mbedtls/x509_crt.h>
#include <stdint.h>
#include <stdio.h>

static int failed(const char *what, int code)
{
    printf("%s cannot be read: %s0x%x\n", what, code < 0 ? "-" : "", code < 0 ? -code : code);
    return 2;
}

int main(int argc, char **argv)
{
    mbedtls_x509_crt authorities, certificate;
    mbedtls_x509_crl crls;
    uint32_t flags = 0;
    int code;

    if (argc != 4)
        return 64;
    mbedtls_x509_crt_init(&authorities);
    mbedtls_x509_crt_init(&certificate);
    mbedtls_x509_crl_init(&crls);
    /* A positive result counts certificates of the file that were skipped. */
    if ((code = mbedtls_x509_crt_parse_file(&authorities, argv[1])) != 0)
        return failed("the trust file", code);
    if ((code = mbedtls_x509_crl_parse_file(&crls, argv[2])) != 0)
        return failed("the CRL", code);
    if ((code = mbedtls_x509_crt_parse_file(&certificate, argv[3])) != 0)
        return failed("the certificate", code);
    mbedtls_x509_crt_verify(&certificate, &authorities, &crls, NULL, &flags, NULL, NULL);
    printf("flags 0x%x\n", (unsigned)flags);
    return 0;
}
