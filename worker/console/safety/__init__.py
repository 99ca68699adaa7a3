"""Who somebody is, and what a request must be to reach a page.

Addresses: `/sign-in` (and `/sign-in/oidc`), `POST /sign-out`, `POST /sign-out-everywhere`.

================  ====================================================================
composition       what the settings make of the modules below; whether a start is safe
known_people      each request gets its person, or is sent to the sign-in
request_checks    the Host that was asked for, and where a form comes from
request_heads     how long a connection may take to say what it wants
body_limits       how much may be sent, and how slowly
answer_headers    what browsers may do with an answer
caught_failures   whatever a page raises becomes a sentence
password_sign_in  the sign-in with name and password
oidc              the sign-in at an OpenID Connect provider
signing_out       here or everywhere
proxy             what a proxy in front says, of people and of addresses
password_file     names, roles and digests of passwords
attempts          how long whoever failed has to wait
session_cookie    the cookie of a session
groups            the role that groups of a directory give
refusals          what is answered instead of a page
================  ====================================================================
"""
